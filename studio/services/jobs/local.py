"""Jobs as processes on this computer, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orthodiff

from .executor import EXIT_CODE, LOG, Ending, identity, process_of, read_exit_code, step_back
from .job import Job
from .spare import Spare
from .work import PLACE, WAIT

ROOT = Path(orthodiff.__file__).resolve().parents[1]
COMMAND = ("-m", "orthodiff.studio.services.jobs.work")
SECRETS = ("ORTHODIFF_TOKEN", "ORTHODIFF_DATABASE")
NICENESS = 5
"""How far a training gives way to the page and to images that somebody waits for."""


class LocalExecutor:
    """One worker per GPU, or one on a CPU. Jobs outlive the page, which finds them again.

    `warm` lets a worker read its libraries before there is a job for it.
    """

    def __init__(self, tickets: Path, *, gpus: int = 0, warm: bool = False) -> None:
        self.tickets, self.gpus, self.warm = tickets, gpus, warm
        self._spare = Spare(self._wait)
        self.slots = max(gpus, 1)

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        """Start the worker; what it prints is added to the job's log."""
        link = self.tickets / job.id
        if not link.is_symlink():
            link.symlink_to(job.folder, target_is_directory=True)
        (job.folder / EXIT_CODE).unlink(missing_ok=True)
        child = self._spare.take(slot, job.id)
        if child is None:
            with (job.folder / LOG).open("ab") as log:
                child = self._spawn(job.id, slot, stdin=subprocess.DEVNULL, output=log)
        handle = identity(child.pid, slot=slot)
        threading.Thread(target=child.wait, daemon=True).start()  # or a zombie would stay
        return handle

    def ending(self, job: Job) -> Ending | None:
        """How the worker ended, by what it left behind; it may be another page's child."""
        return None if process_of(job.handle) else Ending(read_exit_code(job.folder))

    def stop(self, job: Job, *, hard: bool = False) -> None:
        """SIGTERM lets a training save a checkpoint; SIGKILL takes the whole group at once."""
        process = process_of(job.handle)
        if process is None:
            return
        try:
            if hard:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            return

    def expect(self, slot: int) -> None:
        """Have a worker ready for the job that somebody may be about to start."""
        if self.warm:
            self._spare.prepare(slot)

    def close(self) -> None:
        """Let the worker end that waits; trainings outlive the page."""
        self._spare.close()

    def _spawn(self, word: str, slot: int, *, stdin: int, output: Any) -> subprocess.Popen[bytes]:
        """A worker in a process group of its own, which gives way to the page."""
        child = subprocess.Popen(
            [sys.executable, *COMMAND, word],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=self._environment(slot),
            start_new_session=True,
        )
        step_back(child.pid, NICENESS)
        return child

    def _wait(self, slot: int) -> subprocess.Popen[bytes]:
        return self._spawn(WAIT, slot, stdin=subprocess.PIPE, output=subprocess.DEVNULL)

    def _environment(self, slot: int) -> dict[str, str]:
        environment = {**os.environ, **worker_environment(self.tickets)}
        for secret in SECRETS:
            environment.pop(secret, None)
        return {**environment, "CUDA_VISIBLE_DEVICES": str(slot)} if self.gpus else environment


def worker_environment(tickets: Path) -> dict[str, str]:
    """What a worker must know, wherever it is started."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        PLACE: str(tickets),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

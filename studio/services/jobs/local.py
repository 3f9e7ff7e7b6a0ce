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
from .work import PLACE

ROOT = Path(orthodiff.__file__).resolve().parents[1]
COMMAND = ("-m", "orthodiff.studio.services.jobs.work")
NICENESS = 5
"""How far a training gives way to the page and to images that somebody waits for."""


class LocalExecutor:
    """One worker per GPU, or one on a CPU. Jobs outlive the page, which finds them again."""

    def __init__(self, tickets: Path, *, gpus: int = 0) -> None:
        self.tickets, self.gpus = tickets, gpus
        self.slots = max(gpus, 1)

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        """Start the worker; what it prints is added to the job's log."""
        link = self.tickets / job.id
        if not link.is_symlink():
            link.symlink_to(job.folder, target_is_directory=True)
        (job.folder / EXIT_CODE).unlink(missing_ok=True)
        with (job.folder / LOG).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, *COMMAND, job.id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(slot),
                start_new_session=True,
            )
        step_back(child.pid, NICENESS)
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

    def close(self) -> None:
        """Nothing: trainings outlive the page."""

    def _environment(self, slot: int) -> dict[str, str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        found = {
            **os.environ,
            PLACE: str(self.tickets),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        for secret in ("ORTHODIFF_TOKEN", "ORTHODIFF_DATABASE"):
            found.pop(secret, None)
        return {**found, "CUDA_VISIBLE_DEVICES": str(slot)} if self.gpus else found

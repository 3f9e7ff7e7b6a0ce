"""The executor of images: one sampling process, started with the first request, kept warm."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..jobs.executor import EXIT_CODE, Ending, identity, process_of, read_exit_code, step_back
from ..jobs.job import Job
from ..jobs.local import ROOT
from .process import DONE, STOP

COMMAND = ("-m", "orthodiff.studio.services.sampling.process")
NICENESS = 3
"""How far images give way to the page; a training gives way further."""


class SamplingExecutor:
    """Hands jobs to the sampling process, one at a time; `on_done` is called when one has ended."""

    slots = 1

    def __init__(self, on_done: Callable[[], None] = lambda: None, *, warm: bool = False) -> None:
        self.on_done, self.warm = on_done, warm
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        """Hand over a job, to a new process where there is none or it has died."""
        for name in (EXIT_CODE, STOP):
            (job.folder / name).unlink(missing_ok=True)
        with self._lock:
            try:
                process = self._running()
                self._send(process, job)
            except (BrokenPipeError, OSError):
                self._process = None
                process = self._running()
                self._send(process, job)
        return identity(process.pid, slot=slot)

    def ending(self, job: Job) -> Ending | None:
        """A job has ended when its exit code is there, or its process is gone."""
        code = read_exit_code(job.folder)
        if code is not None:
            return Ending(code)
        child = self._process
        if child is not None and child.pid == job.handle.get("pid"):
            return None if child.poll() is None else Ending(read_exit_code(job.folder))
        return None if process_of(job.handle) else Ending(read_exit_code(job.folder))

    def stop(self, job: Job, *, hard: bool = False) -> None:
        """End a job between two steps, or its process with it."""
        (job.folder / STOP).touch()
        process = process_of(job.handle)
        if hard and process is not None:
            process.kill()

    def expect(self, slot: int) -> None:
        """Have the process ready for the images that somebody may be about to ask for."""
        if self.warm:
            with self._lock:
                self._running()

    def close(self) -> None:
        """Let the process end after its present job."""
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
            for secret in ("ORTHODIFF_TOKEN", "ORTHODIFF_DATABASE"):
                environment.pop(secret, None)
            self._process = subprocess.Popen(
                [sys.executable, *COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                start_new_session=True,
            )
            step_back(self._process.pid, NICENESS)
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self._process

    def _send(self, process: subprocess.Popen[str], job: Job) -> None:
        assert process.stdin
        process.stdin.write(f"{job.folder}\n")
        process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == DONE:
                self.on_done()
        process.wait()
        self.on_done()

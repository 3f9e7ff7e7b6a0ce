"""A worker that has read its libraries already and waits for a job: no training waits for them.

Reading torch and diffusers takes longer than the first step of a small training. So one worker is
started when somebody opens the page. It ends by itself when nobody needs it, or with the page.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable


class Spare:
    """At most one waiting worker; `start` starts one that reads the id of its job from stdin."""

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self.start = start
        self._lock = threading.Lock()
        self._slot = 0
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, slot: int) -> None:
        """Have a worker ready for this slot."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._slot, self._process = slot, self.start(slot)

    def take(self, slot: int, job_id: str) -> subprocess.Popen[bytes] | None:
        """Hand a job to the waiting worker; None where there is none for this slot."""
        with self._lock:
            process = self._process
            if process is None or self._slot != slot or process.poll() is not None:
                return None
            self._process = None
        try:
            assert process.stdin
            process.stdin.write(f"{job_id}\n".encode())
            process.stdin.close()
        except OSError:  # it has ended meanwhile
            process.wait()
            return None
        return process

    def close(self) -> None:
        """End it at once, even while it reads: it has nothing to lose."""
        with self._lock:
            process, self._process = self._process, None
        if process and process.stdin:
            process.stdin.close()
            process.kill()
            process.wait()

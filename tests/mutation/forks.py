"""Calls something in a fork of this process, with a limit of time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a fork ended: its exit code, or None past the limit; what it said; seconds of wall."""

    code: int | None
    said: str
    seconds: float


def in_fork(
    run: Callable[[Callable[[str], object]], int], *, limit: float, is_quiet: bool = True
) -> Ended:
    """The exit code that `run` returns in a fork, where it may say one line.

    What it prints is not seen if `is_quiet`. Whatever it started is ended with it.
    """
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        _child(run, writer, is_quiet)
    os.close(writer)
    code = _wait(child, began + limit)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    os.set_blocking(reader, False)
    with open(reader, "rb", buffering=0) as pipe:
        said = (pipe.read(4096) or b"").decode()
    return Ended(code, said, time.monotonic() - began)


def _child(run: Callable[[Callable[[str], object]], int], writer: int, is_quiet: bool) -> None:
    """Never returns: whatever happens, the fork ends here."""
    code = 3
    try:
        os.setpgid(0, 0)
        if is_quiet:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
        code = run(lambda text: os.write(writer, text.encode()[:4096]))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 3
    finally:
        os._exit(code)


def _wait(child: int, until: float) -> int | None:
    pause = 0.001
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return None


def import_quietly(names: list[str]) -> None:
    """Import these modules, as far as they can be, so that forks have them already."""
    import importlib
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def mutate(path: Path, text: str) -> Callable[[], None]:
    """Write another text into a file; the function that is returned puts everything back.

    The time of the file is put back too, so that its compiled form stays valid.
    """
    before, status = path.read_bytes(), path.stat()
    path.write_text(text, "utf-8")

    def restore() -> None:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return restore

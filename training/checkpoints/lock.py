"""One process at a time in a folder: by a lock of the system, else by a lease.

A lock dies with its process. Lustre mounted without `flock`, some network shares and Windows have
none of that kind. There a file that only one process can create stands for it. It is touched as
long as its process lives, and counts for nothing once that is gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK, LEASE = ".lock", ".lease"
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What file systems answer that have no such locks."""
TOUCHED_EVERY = 20.0
"""Seconds between two signs of life of a lease."""
EXPIRED_AFTER = 180.0
"""Seconds without one after which a lease counts for nothing."""


class LockedError(Exception):
    """Another process holds the folder; the message says who, where that is known."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder`, which exists, against all other processes that ask for it this way.

    Raises:
        LockedError: another one holds it.
        OSError: the folder cannot be written.
    """
    with (folder / LOCK).open("a") as lock:
        if _is_locked(lock.fileno()):
            yield
            return
    logger.warning(
        "`%s` lies on a file system without locks, so its file %s says that it is in use.",
        folder, LEASE,
    )  # fmt: skip
    with _lease(folder / LEASE):
        yield


def _is_locked(descriptor: int) -> bool:
    """Lock an open file; False where there are no such locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError from error
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise
    return True


@contextmanager
def _lease(path: Path) -> Iterator[None]:
    token = secrets.token_hex(8)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": token}
    if not _create(path, owner):
        holder = _read(path)
        if not _is_over(path, holder):
            raise LockedError(_name(path, holder))
        _clear(path, holder, token)
        if not _create(path, owner):  # somebody else was faster
            raise LockedError(_name(path, _read(path)))
    left = threading.Event()
    thread = threading.Thread(target=_touch, args=(path, left), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
        if _read(path) == owner:  # after a long pause it may be somebody else's by now
            path.unlink(missing_ok=True)


def _create(path: Path, owner: dict[str, Any]) -> bool:
    """Make the file, unless there is one; NFS and Lustre let one process alone do so."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(owner))
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_over(path: Path, holder: dict[str, Any]) -> bool:
    """Whether the process of a lease is gone: it ended on this machine, or shows no life."""
    if holder.get("host") == socket.gethostname() and os.name == "posix":
        return not _lives(int(holder.get("pid", 0)))
    probe = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    try:
        probe.touch()  # the time by the file system's own clock
        return probe.stat().st_mtime - path.stat().st_mtime > EXPIRED_AFTER
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return pid > 0


def _clear(path: Path, holder: dict[str, Any], token: str) -> None:
    """Take a lease that is over away; one that another process has made meanwhile comes back."""
    aside = path.with_name(f"{path.name}-{token}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside) != holder:  # between our look and the rename it was made anew
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _touch(path: Path, left: threading.Event) -> None:
    while not left.wait(TOUCHED_EVERY):
        with suppress(OSError):
            os.utime(path)


def _name(path: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    return f"{who}, by its file `{path}`"

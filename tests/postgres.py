"""A throw-away PostgreSQL server for tests, where Debian's `postgresql` is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60.0
SETTINGS = (
    "listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=40", "jit=off",
)  # fmt: skip


def missing() -> str:
    """Why there can be no server here; empty where there can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "the driver psycopg is not installed: pip install 'orthodiff[postgres]'"
    if _program("postgres") is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if os.geteuid() == 0 and _owner() is None:
        return "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`"
    return ""


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server of its own, on a socket in a private folder."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as place:
        who = _as_owner(Path(place))
        data = f"{place}/data"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": place, **who}
        make = [_program("initdb"), "-D", data, "-U", "studio", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, **quiet)
        options = [word for setting in SETTINGS for word in ("-c", setting)]
        with (Path(place) / "log").open("wb") as log:
            start = [_program("postgres"), "-D", data, "-k", place, *options]
            process = subprocess.Popen(start, stderr=log, **quiet)
        try:
            _wait(process, Path(place))
            yield f"postgresql+psycopg://studio@/postgres?host={place}"
        finally:
            process.send_signal(signal.SIGINT)  # does not wait for clients
            process.wait(SECONDS)


def _wait(process: subprocess.Popen[bytes], place: Path) -> None:
    import psycopg

    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            psycopg.connect(host=str(place), user="studio", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the server did not start: {(place / 'log').read_text()}")


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


def _owner() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _as_owner(place: Path) -> dict[str, Any]:
    """How to start programs as the folder's owner, which is not root."""
    owner = _owner()
    if os.geteuid() != 0 or owner is None:
        return {}
    os.chown(place, owner.pw_uid, owner.pw_gid)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

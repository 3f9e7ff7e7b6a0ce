"""One process at a time in an output folder, on file systems with locks and without."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthodiff.training.checkpoints import lock
from orthodiff.training.checkpoints.lock import LEASE, LockedError, exclusive
from tests.runs import ROOT


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOTSUP) -> None:
    """As Lustre answers where it is mounted without `flock`."""

    def flock(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)


def pid_of_ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK])
def test_a_lease_stands_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    without_flock(monkeypatch, number)
    with exclusive(tmp_path):
        assert "without locks" in caplog.text
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()
        with pytest.raises(LockedError, match=f"process {os.getpid()} on "), exclusive(tmp_path):
            pass
        assert (tmp_path / LEASE).exists()
    assert not (tmp_path / LEASE).exists()
    with exclusive(tmp_path):
        pass


def test_other_errors_of_locks_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"), exclusive(tmp_path):
        pass


@pytest.mark.parametrize(
    ("host", "age", "is_free"),
    [("here", 0.0, True), ("elsewhere", 0.0, False), ("elsewhere", 3600.0, True)],
)
def test_a_lease_of_a_process_that_is_gone_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, age: float, is_free: bool
) -> None:
    """Ended on this machine; on another one only the age of its last sign of life tells."""
    without_flock(monkeypatch)
    name = lock.socket.gethostname() if host == "here" else "another-machine"
    owner = {"host": name, "pid": pid_of_ended_process(), "token": "0"}
    (tmp_path / LEASE).write_text(json.dumps(owner))
    then = time.time() - age
    os.utime(tmp_path / LEASE, (then, then))
    if is_free:
        with exclusive(tmp_path):
            assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(LockedError, match="another-machine"), exclusive(tmp_path):
            pass
        assert json.loads((tmp_path / LEASE).read_text()) == owner
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", LEASE}


def test_a_lease_shows_that_its_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(monkeypatch)
    monkeypatch.setattr(lock, "TOUCHED_EVERY", 0.01)
    with exclusive(tmp_path):
        os.utime(tmp_path / LEASE, (0, 0))
        end = time.monotonic() + 20
        while not (tmp_path / LEASE).stat().st_mtime and time.monotonic() < end:
            time.sleep(0.01)
        assert (tmp_path / LEASE).stat().st_mtime > 0


def test_a_lease_made_meanwhile_comes_back(tmp_path: Path) -> None:
    """Two that find the same dead lease: the slower one must not take the faster one's away."""
    path, dead, new = tmp_path / LEASE, {"token": "dead"}, {"token": "new"}
    path.write_text(json.dumps(new))
    lock._clear(path, dead, "token")
    assert json.loads(path.read_text()) == new
    assert [each.name for each in tmp_path.iterdir()] == [LEASE]


def test_without_the_modules_of_posix_everything_can_be_imported() -> None:
    """As on Windows, where neither is there."""
    code = (
        "import psutil, sys\n"  # which needs neither there, but one here
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "import orthodiff, orthodiff.training.cli.main, orthodiff.training.cli.plan\n"
        "import orthodiff.training.run.assemble, orthodiff.training.run.prepare\n"
        "import orthodiff.training.checkpoints.run_dir, orthodiff.batch.run, orthodiff.cli.main\n"
        "from orthodiff.training.checkpoints.lock import exclusive\n"
        "from pathlib import Path; import tempfile\n"
        "with tempfile.TemporaryDirectory() as folder, exclusive(Path(folder)):\n"
        "    print(*sorted(path.name for path in Path(folder).iterdir()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [".lease", ".lock"], done.stderr

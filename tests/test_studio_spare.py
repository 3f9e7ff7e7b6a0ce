"""The worker that waits for a job: handed on once, gone with the page, out of the page's way."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthodiff.studio.services.jobs.executor import Ticket, read_exit_code
from orthodiff.studio.services.jobs.job import Job, new_id
from orthodiff.studio.services.jobs.local import NICENESS, LocalExecutor
from orthodiff.studio.services.jobs.spare import Spare

ECHO = "import sys; print(sys.stdin.readline().strip() or 'nothing')"


@pytest.fixture
def spare() -> Iterator[Spare]:
    def start(slot: int) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", ECHO], stdin=pipe, stdout=pipe)

    made = Spare(start)
    yield made
    made.close()


def said(process: subprocess.Popen[bytes] | None) -> str:
    assert process
    assert process.stdout
    with process.stdout as output:
        text = output.read().decode().strip()
    process.wait()
    return text


def test_a_waiting_worker_gets_one_job(spare: Spare) -> None:
    assert spare.take(0, "j1") is None
    spare.prepare(0)
    spare.prepare(0)
    assert spare.take(1, "j1") is None, "it was started for another GPU"
    taken = spare.take(0, "j2")
    assert spare.take(0, "j3") is None
    assert said(taken) == "j2"


def test_a_waiting_worker_that_died_is_replaced(spare: Spare) -> None:
    spare.prepare(0)
    first = spare._process
    assert first
    first.kill()
    first.wait()
    assert spare.take(0, "j1") is None
    spare.prepare(0)
    assert said(spare.take(0, "j2")) == "j2"
    for stream in (first.stdin, first.stdout):
        assert stream
        stream.close()


def test_a_waiting_worker_ends_with_the_page(spare: Spare) -> None:
    spare.prepare(0)
    process = spare._process
    assert process
    spare.close()
    assert process.returncode is not None
    assert spare.take(0, "j1") is None
    said(process)


def test_a_job_is_done_by_the_worker_that_waited(tmp_path: Path) -> None:
    """The real one: what it prints is in the job's log, its exit code in the job's folder."""
    (tmp_path / "tickets").mkdir()
    folder = tmp_path / "run"
    folder.mkdir()
    Ticket(("train", "dreambooth", "--no_such_flag"), str(tmp_path), str(folder)).write(folder)
    executor = LocalExecutor(tmp_path / "tickets", warm=True)
    executor.expect(0)
    waiting = executor._spare._process
    assert waiting
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, waiting.pid) == min(own + NICENESS, 19)
    job = Job(new_id(), "dreambooth", "ann", "run", "running", folder, time.time())
    handle = executor.start(job, 0)
    assert handle["pid"] == waiting.pid
    waiting.wait(timeout=120)
    assert read_exit_code(folder) == 2
    assert "no_such_flag" in (folder / "log.txt").read_text()
    executor.close()

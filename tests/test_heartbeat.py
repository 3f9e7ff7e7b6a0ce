"""A process that is gone ends the others within a minute, wherever they are."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from orthodiff.training.run import heartbeat
from orthodiff.training.run.heartbeat import Heartbeat
from tests.forks import fork_group
from tests.runs import make_images
from tests.test_many_processes import WITHIN, commands, end


class Store:
    """As torch's, in one process."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.lock = threading.Lock()
        self.is_gone = False

    def add(self, key: str, amount: int, /) -> int:
        if self.is_gone:
            raise RuntimeError("Connection reset by peer")
        with self.lock:
            self.numbers[key] = self.numbers.get(key, 0) + amount
            return self.numbers[key]


class Process:
    """One process's heartbeat, and what it would have said at its end."""

    def __init__(self, store: Store, rank: int, count: int = 2) -> None:
        self.ended = threading.Event()
        self.reason = ""
        self.heart = Heartbeat(store, rank, count, end=self.end, beat=0.01)
        self.heart.start()

    def end(self, reason: str) -> None:
        self.reason = reason
        self.ended.set()

    def stop(self) -> None:
        """Give no sign of life any more, as a killed process."""
        self.heart._left.set()
        self.heart._thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 1.0)
    monkeypatch.setattr(heartbeat, "GRACE", 0.05)


def test_the_others_hear_of_one_that_is_silent() -> None:
    """The first watches all; the last hears of the second through the first."""
    store = Store()
    first, second, third = (Process(store, rank, 3) for rank in range(3))
    second.stop()
    assert first.ended.wait(20)
    assert third.ended.wait(20)
    assert first.reason.startswith("process 1 of this run gave no sign of life")
    assert third.reason.startswith("another process of this run ended")
    assert "--resume_from_checkpoint latest" in first.reason


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_through_is_not_missed(rank: int) -> None:
    store = Store()
    processes = [Process(store, each) for each in range(2)]
    processes[rank].heart.leave(done=True)
    assert not processes[1 - rank].ended.wait(2.0)
    processes[1 - rank].heart.leave(done=True)
    processes[1 - rank].heart._thread.join(20)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_fails_takes_the_others_with_it(rank: int) -> None:
    store = Store()
    processes = [Process(store, each) for each in range(2)]
    processes[rank].heart.leave(done=False)
    assert processes[1 - rank].ended.wait(20)
    assert not processes[rank].ended.is_set()


def test_a_store_that_is_gone_ends_them_unless_they_are_through_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    waiting = Process(store, 1)
    monkeypatch.setattr(heartbeat, "GRACE", 20.0)
    ready = Process(Store(), 1)
    ready.heart.store.is_gone = True  # type: ignore[attr-defined]
    time.sleep(0.1)
    ready.heart.leave(done=True)
    ready.heart._thread.join(20)
    assert not ready.ended.is_set()
    monkeypatch.setattr(heartbeat, "GRACE", 0.05)
    store.is_gone = True
    assert waiting.ended.wait(20)
    assert "met" in waiting.reason


def encode_for_long(marks: Path, *, silence: float) -> None:
    """From here on encoding an image takes minutes, of which a file tells."""
    from orthodiff.training.latents import encode
    from orthodiff.training.run import heartbeat

    heartbeat.SILENCE = silence

    def wait(*arguments: object) -> None:
        (marks / f"{os.environ['RANK']}.encoding").touch()
        time.sleep(600)

    encode._encode_image = wait  # type: ignore[assignment]


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("silence", [2.0, pytest.param(heartbeat.SILENCE, marks=pytest.mark.slow)])
def test_a_process_killed_in_a_long_encode_ends_the_other(
    tiny: Path, tmp_path: Path, killed: int, silence: float
) -> None:
    """Both encode for themselves, so that no operation between them breaks."""
    pictures = make_images(tmp_path / "pictures", count=4)
    processes = fork_group(
        commands(tiny, pictures, tmp_path, 2),
        tmp_path,
        before=partial(encode_for_long, tmp_path, silence=silence),
    )
    marks = [tmp_path / f"{rank}.encoding" for rank in range(2)]
    while not all(map(Path.exists, marks)) and all(process.is_alive() for process in processes):
        processes[0].join(0.05)
    begun = time.monotonic()
    os.kill(processes[killed].pid or 0, signal.SIGKILL)
    codes = end(processes)
    assert time.monotonic() - begun < WITHIN
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 1
    said = (tmp_path / f"{1 - killed}.log").read_text()
    expected = "gave no sign of life" if killed else "met at ended"
    assert said.count("failed: ") == 1
    assert expected in said

"""A run's state is told from its events alone, whatever happened to its process."""

from pathlib import Path

import pytest

from orthodiff.training.events.history import read_history
from orthodiff.training.events.log import (
    EventLog,
    Failed,
    Finished,
    Sample,
    Saved,
    Scored,
    Started,
    Step,
)


def started(start_step: int) -> Started:
    return Started(1, "hra", 100, 6, start_step, "out", "a photo of sks dog", "base")


def step(number: int, loss: float = 0.5) -> Step:
    return Step(number, loss, 1e-3, 0.1, 0.1)


def tell(folder: Path, *events) -> None:
    log = EventLog(folder / "events.jsonl")
    for event in events:
        log(event)


def test_a_run_that_never_was_has_an_empty_history(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert (history.step, history.seconds, history.end, history.started) == (0, None, None, {})


def test_a_turn_undoes_what_lies_beyond_its_start(tmp_path: Path) -> None:
    sample = Sample(3, ["a.png"], ["p"], [0])
    tell(tmp_path, started(0), step(1), step(2), Saved(2, "checkpoint-2", 5.0), step(3, 9.0))
    tell(tmp_path, sample, Scored(3, loss=1.0))  # and then it was killed
    assert read_history(tmp_path).end is None
    assert read_history(tmp_path).step == 3
    tell(tmp_path, started(2))
    history = read_history(tmp_path)
    assert [event["step"] for event in history.steps] == [1, 2]
    assert (history.samples, history.scores) == ([], [])
    assert (history.step, history.seconds) == (2, 5.0)
    tell(tmp_path, step(3, 0.4), Failed(3, "out of memory"))
    history = read_history(tmp_path)
    assert [event["loss"] for event in history.steps] == [0.5, 0.5, 0.4]
    assert history.end
    assert history.end["reason"] == "out of memory"


@pytest.mark.parametrize("afresh", [False, True])
def test_starting_again_forgets_the_end(tmp_path: Path, afresh: bool) -> None:
    tell(tmp_path, started(0), step(1), Saved(1, "checkpoint-1", 2.0), Finished(1, 2.5))
    assert read_history(tmp_path).seconds == 2.5
    tell(tmp_path, started(0 if afresh else 1))
    history = read_history(tmp_path)
    assert history.end is None
    assert history.step == (0 if afresh else 1)
    assert history.seconds == (None if afresh else 2.0)

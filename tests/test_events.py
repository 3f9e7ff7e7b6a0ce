"""Events are JSON lines that survive a crash, and progress for people."""

import io
import json
import time
from pathlib import Path

from orthodiff.training.events.log import (
    EventLog,
    EventReader,
    Finished,
    Sample,
    Saved,
    Started,
    Step,
    read_events,
)
from orthodiff.training.events.progress import ProgressBar

STARTED = Started(1, "hra", 100, 2, 0, "out", "a photo of sks dog", "base")
STEP = Step(1, 0.5, 1e-3, 0.1, 0.1)


def test_every_line_names_its_event_and_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    sample, saved = Sample(1, ["a.png"], ["ß"], [0]), Saved(1, "c", 0.1)
    for event in (STARTED, STEP, sample, saved, Finished(2, 1.0)):
        log(event)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    names = [line["event"] for line in lines]
    assert names == ["Started", "Step", "Sample", "Saved", "Finished"]
    assert all(line["time"] > 1e9 for line in lines)
    assert lines[2]["prompts"] == ["ß"]


def test_a_torn_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path)(STARTED)
    with path.open("a") as file:
        file.write('{"event": "St')
    assert len(read_events(path)) == 1
    EventLog(path)(STEP)
    assert [event["event"] for event in read_events(path)] == ["Started", "Step"]


def test_progress_without_a_terminal_is_plain_lines() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for event in (STARTED, STEP, Finished(2, 1.0)):
        bar(event)
    assert "100 trainable parameters" in stream.getvalue()
    assert "step 1/2  loss 0.5000" in stream.getvalue()
    assert "\r" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar_with_time_left() -> None:
    stream = Terminal()
    bar = ProgressBar(stream)
    for event in (STARTED, STEP, Step(2, 0.4, 1e-3, 0.1, 0.0), Finished(2, 1.0)):
        bar(event)
    assert "2/2" in stream.getvalue()
    assert "loss=0.4" in stream.getvalue()


def test_a_reader_keeps_up_with_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log, reader = EventLog(path), EventReader(path)
    for number in range(1, 5):
        log(Step(number, 0.5, 1e-3, 0.1, 0.1))
        assert list(reader.load()) == read_events(path)
    with path.open("a") as file:
        file.write('{"event": "St')
    assert list(reader.load()) == read_events(path)
    EventLog(path)(STARTED)  # cuts the torn line off
    assert list(reader.load()) == read_events(path)
    path.unlink()  # another run in its place
    EventLog(path)(STARTED)
    assert [event["event"] for event in reader.load()] == ["Started"]
    time.sleep(0.01)  # its first line says when it began
    path.unlink()
    for number in range(1, 20):  # a longer one, which may get the same inode
        log(Step(number, 0.5, 1e-3, 0.1, 0.1))
    assert list(reader.load()) == read_events(path)

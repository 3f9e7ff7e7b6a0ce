"""What a run says while it runs: typed events, written as JSON lines."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError, is_unicode


@dataclass(frozen=True)
class Started:
    """A turn begins after `start_step`; each step sees `batch_size` samples over all processes.

    `passed_over` says what is wrong with newer checkpoints, which it could not go on from.
    """

    pid: int
    method: str
    parameters: int
    steps: int
    start_step: int
    output_dir: str
    instance_prompt: str
    base: str
    processes: int = 1
    batch_size: int = 1
    passed_over: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    step: int
    loss: float
    learning_rate: float
    seconds_per_step: float
    eta_seconds: float


@dataclass(frozen=True)
class Sample:
    """Images made with the adapter after `step` steps; `paths` are relative to the run."""

    step: int
    paths: Sequence[str]
    prompts: Sequence[str]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Scored:
    """How good the adapter is after `step` steps; what was not measured is None.

    `loss` is the error on fixed samples of `loss_of`. Similarities lie in [-1, 1] and mean
    something only beside their `scorer`; `subject_similarities` are those by the names of
    further networks, such as `efficientnet-lite0`. Scores compare where `measured_on` is the same:
    a hash of samples, photos, prompts, seeds and control images.
    """

    step: int
    loss: float | None = None
    loss_of: str = ""
    subject_similarity: float | None = None
    prompt_similarity: float | None = None
    scorer: str = ""
    subject_similarities: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""


@dataclass(frozen=True)
class Saved:
    """A checkpoint was sealed; `seconds` of training are behind it, redone steps counted once."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The last step is done; `seconds` as in `Saved`.

    `best_step` is the kept checkpoint that `best_reason` tells to be the best; a copy of it is in
    `best/`. `samples_per_second` is the pace of this turn's steps over all processes.
    """

    step: int
    seconds: float
    path: str = "."
    samples_per_second: float | None = None
    best_step: int | None = None
    best_reason: str = ""


@dataclass(frozen=True)
class Failed:
    step: int
    reason: str


Event = Started | Step | Sample | Scored | Saved | Finished | Failed
Report = Callable[[Event], None]
RESERVE = 1 << 14
"""Bytes set aside so that even a full disk has room for the last word."""


def to_json(event: Event) -> str:
    """One line: the event's name, the time in unix seconds, and its fields."""
    values = {"event": type(event).__name__, "time": time.time(), **dataclasses.asdict(event)}
    text = json.dumps(values, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(values)  # a path of other bytes


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a file; a last line cut off by a crash is left out.

    Raises:
        UserError: another program wrote it.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    try:
        events = [json.loads(line) for line in lines[:-1] if line]
    except ValueError:
        events = [None]
    for event in events:
        if not isinstance(event, dict) or "event" not in event:
            raise UserError(
                f"`{path}` does not hold the events of a run. Give the folder of a training."
            )
    return events


class EventReader:
    """The events of a file that grows: each time only what was added is read."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._first, self._end = b"", 0
        self._events: list[dict[str, Any]] = []

    def load(self) -> Sequence[dict[str, Any]]:
        """All events that are whole by now; those of another file, if one was put in its place."""
        with self._lock, self.path.open("rb") as file:
            first = file.readline()  # it says when the run began
            if first != self._first or file.seek(0, os.SEEK_END) < self._end:
                self._first, self._end, self._events = b"", 0, []
            file.seek(self._end)
            added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            events = [*self._events, *(json.loads(line) for line in whole.split(b"\n") if line)]
            if whole:
                self._first, self._end, self._events = first, self._end + len(whole), events
            return events


class EventLog:
    """Appends events to `events.jsonl`: each line whole or not there, all but steps fsynced."""

    def __init__(self, path: Path) -> None:
        self.path, self.reserve = path, path.with_name(".reserve")
        _drop_torn_line(path)
        self.reserve.write_bytes(bytes(RESERVE))

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self.reserve.unlink(missing_ok=True)
        self._append(f"{to_json(event)}\n".encode(), sync=not isinstance(event, Step))

    def _append(self, line: bytes, *, sync: bool) -> None:
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                if sync:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left without its end."""
    if path.is_file():
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(path, end)

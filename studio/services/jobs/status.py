"""What a run's folder says about it. Nothing is remembered: every reload tells the truth anew."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import psutil

from orthodiff.training.events.history import History
from orthodiff.training.events.log import EventReader

from .store import (
    EVENTS,
    EXIT_CODE,
    LOG,
    STOP,
    read_record,
)

State = Literal["starting", "running", "stopping", "finished", "stopped", "failed"]
ALIVE = ("starting", "running", "stopping")
LOG_LINES = 12


@dataclass(frozen=True)
class Status:
    """A run as its events, its process and its log show it; times in seconds."""

    name: str
    state: State
    started: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]
    reason: str = ""
    seconds: float | None = None
    log: str = ""

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE

    @property
    def step(self) -> int:
        return int(self.steps[-1]["step"]) if self.steps else int(self.started.get("start_step", 0))

    @property
    def total(self) -> int:
        return int(self.started.get("steps", 0))

    @property
    def eta(self) -> float | None:
        """Seconds left, counted down since the last step."""
        if not self.steps or self.state != "running":
            return None
        last = self.steps[-1]
        return max(0.0, last["eta_seconds"] - (time.time() - last["time"]))


def read_status(folder: Path) -> Status:
    """The state of the run in `folder`.

    The process is looked at before the events: one that ends in between has told its end by then.
    """
    alive = process_of(folder) is not None
    history = _history(folder / EVENTS)
    last = _newest_turn(folder, history)
    state, reason = _judge(folder, last, alive=alive)
    return Status(
        name=folder.name,
        state=state,
        started=history.started,
        steps=history.steps,
        samples=history.samples,
        reason=reason,
        seconds=last.get("seconds"),
        log=_tail(folder / LOG) if state == "failed" else "",
    )


def process_of(folder: Path) -> psutil.Process | None:
    """The live process that trains this run, or None.

    A process younger than the note of its id is another one that got the same id later.
    """
    record = read_record(folder)
    started = _history(folder / EVENTS).started
    notes = [(record.pid, record.seen)] if record else []
    notes += [(started["pid"], started["time"])] if {"pid", "time"} <= started.keys() else []
    for pid, seen in notes:
        try:
            process = psutil.Process(pid)
            if process.create_time() <= seen + 1 and _trains(process):
                return process
        except psutil.Error:
            continue
    return None


def _trains(process: psutil.Process) -> bool:
    """Whether it is a training: a folder from another computer may note any id."""
    alive = process.status() != psutil.STATUS_ZOMBIE
    return alive and any(word in ("train", "training") for word in process.cmdline())


def _newest_turn(folder: Path, history: History) -> Mapping[str, Any]:
    """How the present process stands; what an earlier one said no longer counts."""
    record, last = read_record(folder), history.end or history.started
    if not last or (record and last["time"] < record.seen):
        return {"event": "None"}
    return last


def _judge(folder: Path, last: Mapping[str, Any], *, alive: bool) -> tuple[State, str]:
    """The state and, for an unhappy end, the reason in one sentence."""
    asked_to_stop = (folder / STOP).is_file()
    if last["event"] == "Finished":
        return "finished", ""
    if last["event"] == "Failed":
        reason = str(last["reason"])
        return ("stopped", reason) if reason.startswith("stopped by") else ("failed", reason)
    if alive and asked_to_stop:
        return "stopping", ""
    if alive:
        return ("running" if last["event"] == "Started" else "starting"), ""
    if asked_to_stop:
        return "stopped", "stopped before it could save a checkpoint"
    return "failed", _why_it_died(folder)


def _why_it_died(folder: Path) -> str:
    """The command's own error sentence, or what its exit code tells."""
    for line in reversed(_tail(folder / LOG).splitlines()):
        if line.startswith(("error: ", "failed: ")):
            return line.partition(": ")[2]
    code = _read(folder / EXIT_CODE).strip()
    if code == "-9":
        return "The process was killed (signal 9), most often because the memory ran out."
    if code.startswith("-"):
        return f"The process was ended by signal {code[1:]}."
    if code:
        return f"The process ended with exit code {code} before it had finished."
    return "The process is gone without having finished. Was the computer restarted?"


def _history(path: Path) -> History:
    try:
        found = path.stat()
    except OSError:
        return History.of([])
    return _read_history(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _read_history(path: Path, changed: int, size: int) -> History:
    try:
        return History.of(_reader(path).read())
    except (OSError, ValueError, KeyError, TypeError):  # written by others
        return History.of([])


@lru_cache(maxsize=8)
def _reader(path: Path) -> EventReader:
    return EventReader(path)


def _tail(path: Path) -> str:
    return "\n".join(_read(path).replace("\r", "\n").splitlines()[-LOG_LINES:])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_000))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""

"""What a run says while it runs: typed events, written as JSON lines and shown as progress."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm


@dataclass(frozen=True)
class Started:
    pid: int
    method: str
    parameters: int
    steps: int
    start_step: int
    output_dir: str
    instance_prompt: str
    base: str


@dataclass(frozen=True)
class Step:
    step: int
    loss: float
    learning_rate: float
    seconds_per_step: float
    eta_seconds: float


@dataclass(frozen=True)
class Sample:
    """Pictures made with the adapter after `step` steps; `paths` are relative to the run."""

    step: int
    paths: Sequence[str]
    prompts: Sequence[str]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Saved:
    """A checkpoint was sealed; `seconds` of training are behind it, redone steps counted once."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The last step is done; `seconds` as in `Saved`."""

    step: int
    seconds: float
    path: str = "."


@dataclass(frozen=True)
class Failed:
    step: int
    reason: str


Event = Started | Step | Sample | Saved | Finished | Failed
Report = Callable[[Event], None]


def to_json(event: Event) -> str:
    """One line: the event's name, the time in unix seconds, and its fields."""
    values = {"event": type(event).__name__, "time": time.time(), **dataclasses.asdict(event)}
    return json.dumps(values, ensure_ascii=False)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a file; a last line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line]


class EventLog:
    """Appends events to `events.jsonl`, each line flushed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _drop_torn_line(path)

    def __call__(self, event: Event) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(event) + "\n")


class ProgressBar:
    """A bar with loss and time left on a terminal; a line every tenth of the way elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: tqdm | None = None
        self.total = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Saved):
            self._say(f"saved {event.path}")
        elif isinstance(event, Sample):
            self._say(f"sampled {len(event.paths)} pictures at step {event.step}")
        elif self.bar is not None:
            self.bar.close()
            self.bar = None

    def _start(self, event: Started) -> None:
        self.total = event.steps
        self._say(
            f"{event.method}: {event.parameters:,} trainable parameters on {event.base}, "
            f"steps {event.start_step} to {event.steps}"
        )
        if self.stream.isatty():
            self.bar = tqdm(
                total=event.steps, initial=event.start_step, unit="step", file=self.stream
            )

    def _step(self, event: Step) -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{event.loss:.4f}", refresh=False)
            self.bar.update(1)
        elif event.step % max(self.total // 10, 1) == 0 or event.step == self.total:
            self._say(
                f"step {event.step}/{self.total}  loss {event.loss:.4f}  "
                f"{event.eta_seconds:.0f} s left"
            )

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left without its end."""
    if path.is_file():
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(path, end)

"""What became of a run, told from its events alone: after a crash as well as while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .log import read_events

Told = Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """The events that still stand.

    A run that goes on from step N undoes what an earlier turn did beyond N, so every list holds one
    event per step, in order. `started` is the newest turn's start ({} before the first), `end` how
    that turn ended: Finished, Failed, or None while it runs, also when it was killed.
    """

    started: Told
    steps: Sequence[Told]
    samples: Sequence[Told]
    scores: Sequence[Told]
    saved: Sequence[Told]
    end: Told | None

    @classmethod
    def of(cls, events: Sequence[Told]) -> History:
        """Tell the history from all events of a run, in the order in which they were written."""
        started: Told = {}
        end: Told | None = None
        kept: dict[str, dict[int, Told]] = {k: {} for k in ("Step", "Sample", "Scored", "Saved")}
        for event in events:
            kind = event["event"]
            if kind == "Started":
                started, end, first = event, None, event.get("start_step", 0)
                kept = {k: {n: e for n, e in v.items() if n <= first} for k, v in kept.items()}
            elif kind in ("Finished", "Failed"):
                end = event
            elif kind in kept:
                kept[kind][event["step"]] = event
        steps, samples, scores, saved = (
            [events[step] for step in sorted(events)] for events in kept.values()
        )
        return cls(started, steps, samples, scores, saved, end)

    @property
    def step(self) -> int:
        """How far the run has come."""
        return int(self.steps[-1]["step"]) if self.steps else int(self.started.get("start_step", 0))

    @property
    def seconds(self) -> float | None:
        """Seconds of training behind the newest checkpoint or the end; redone steps count once."""
        told = [event for event in (*self.saved, self.end) if event and "seconds" in event]
        return float(told[-1]["seconds"]) if told else None


def read_history(output_dir: Path) -> History:
    """The history of the run in a folder; an empty one where there is none."""
    return History.of(read_events(output_dir / "events.jsonl"))

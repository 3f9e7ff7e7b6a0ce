"""What became of a run, told from its events alone: after a crash as well as while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .log import read_events

EventFields = Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """The events that still stand.

    A run that goes on from step N undoes what an earlier turn did beyond N, so every list holds one
    event per step, in order. `started` is the newest turn's start ({} before the first), `end` how
    that turn ended: Finished, Failed, or None while it runs, also when it was killed.
    """

    started: EventFields
    steps: Sequence[EventFields]
    samples: Sequence[EventFields]
    scores: Sequence[EventFields]
    saved: Sequence[EventFields]
    end: EventFields | None

    @classmethod
    def of(cls, events: Sequence[EventFields]) -> History:
        """Tell the history from all events of a run, in the order in which they were written."""
        started: EventFields = {}
        end: EventFields | None = None
        by_kind: dict[str, dict[int, EventFields]] = {
            k: {} for k in ("Step", "Sample", "Scored", "Saved")
        }
        for event in events:
            kind = event["event"]
            if kind == "Started":
                started, end, first = event, None, event.get("start_step", 0)
                by_kind = {
                    k: {n: e for n, e in v.items() if n <= first} for k, v in by_kind.items()
                }
            elif kind in ("Finished", "Failed"):
                end = event
            elif kind in by_kind:
                by_kind[kind][event["step"]] = event
        steps, samples, scores, saved = (
            [events[step] for step in sorted(events)] for events in by_kind.values()
        )
        return cls(started, steps, samples, scores, saved, end)

    @property
    def step(self) -> int:
        """How far the run has come."""
        return int(self.steps[-1]["step"]) if self.steps else int(self.started.get("start_step", 0))

    @property
    def seconds(self) -> float | None:
        """Seconds of training behind the newest checkpoint or the end; redone steps count once."""
        timed = [event for event in (*self.saved, self.end) if event and "seconds" in event]
        return float(timed[-1]["seconds"]) if timed else None


def read_history(output_dir: Path) -> History:
    """The history of the run in a folder; an empty one where there is none."""
    return History.of(read_events(output_dir / "events.jsonl"))

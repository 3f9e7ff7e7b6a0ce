"""What stays of a run: its checkpoints, the best of them, and the adapter at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..events.history import read_history
from ..events.log import (
    Finished,
    Report,
    Saved,
    Scored,
)
from .best import Score, choose_best
from .sealed import (
    copy_adapter,
    list_checkpoints,
    save_checkpoint,
    spread_adapter,
    step_of,
)

if TYPE_CHECKING:
    from orthodiff.components.adapter_set import AdapterSet

    from ..run.prepare import RunContext

BEST = "best"


class CheckpointManager:
    """Keeps what the main process of a run is to leave behind, and tells when it has.

    `scores` are the run's so far: those of undone steps are not among them.
    """

    def __init__(self, context: RunContext, report: Report) -> None:
        self.context, self.report, self.begun = context, report, time.monotonic()
        self.folder: Path = context.config.output_dir
        told = read_history(self.folder).scores
        self.scores: list[Score] = [score for score in told if score["step"] <= context.start_step]

    @property
    def seconds(self) -> float:
        """Seconds spent on what is learned by now, earlier turns of the run included."""
        before = self.context.checkpoint["seconds"] if self.context.checkpoint else 0.0
        return before + time.monotonic() - self.begun

    def save(self, step: int, adapter_set: AdapterSet, state: Mapping[str, Any]) -> None:
        """Seal a checkpoint; the best one so far outlives its turn."""
        best = choose_best(self.scores, self._kept())
        seconds = self.seconds
        place = save_checkpoint(
            self.folder,
            step,
            adapter_set=adapter_set,
            state={**state, "seconds": seconds},
            base=self.context.base.name,
            metadata=describe(self.context, steps=step, seconds=seconds),
            limit=self.context.config.checkpoints_total_limit,
            spare={best.step} if best else (),
        )
        self.report(Saved(step, place.name, seconds))

    def note(self, score: Scored) -> None:
        """Take a new score into account, and tell it."""
        self.scores.append(asdict(score))
        self.report(score)

    def finish(self, *, samples_per_second: float | None) -> None:
        """Leave the last checkpoint's adapter in the run's folder, and the best one's in `best`."""
        last = self.context.config.max_train_steps
        spread_adapter(self.folder / f"checkpoint-{last}", self.folder)
        best = choose_best(self.scores, self._kept())
        if best:
            copy_adapter(self.folder / f"checkpoint-{best.step}", self.folder / BEST)
        self.report(
            Finished(
                last,
                self.seconds,
                samples_per_second=samples_per_second,
                best_step=best.step if best else None,
                best_reason=best.reason if best else "",
            )
        )

    def _kept(self) -> set[int]:
        return {step for path in list_checkpoints(self.folder) if (step := step_of(path))}


def describe(context: RunContext, *, steps: int, seconds: float) -> dict[str, str]:
    """The recipe that goes into the adapter's file."""
    config = context.config
    return {
        **context.task.describe(config),
        "steps": str(steps),
        "seed": str(config.seed),
        "learning_rate": f"{config.rate:g}",
        "train_batch_size": str(config.train_batch_size),
        "resolution": str(context.resolution),
        "base_sha256": context.base.fingerprint(),
        "seconds": f"{seconds:.1f}",
    }

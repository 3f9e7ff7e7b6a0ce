"""What stays of a run: its checkpoints, the best of them, and the adapter at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..events.history import read_history
from ..events.log import (
    Finished,
    Report,
    Saved,
    Scored,
)
from .recipe import TrainingRecipe
from .sealed import (
    copy_adapter,
    list_checkpoints,
    save_checkpoint,
    spread_adapter,
    step_of,
)

if TYPE_CHECKING:
    from orthodiff.components.adapter_set import AdapterSet

BEST = "best"
Score = Mapping[str, Any]
"""A `Scored` event as it was written."""
SAME = "measured_on"


class CheckpointManager:
    """Saves what the main process of a run leaves behind in `folder`, and reports it.

    `config` and `provenance` go into each checkpoint: a resumed run compares its own with them.
    Of the checkpoints the newest `limit` stay. `scores` are those of the run so far, steps that
    were undone by resuming at `start_step` left out.
    """

    def __init__(
        self,
        folder: Path,
        report: Report,
        *,
        base: str,
        recipe: TrainingRecipe,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        last_step: int,
        limit: int | None = None,
        start_step: int = 0,
        seconds_before: float = 0.0,
    ) -> None:
        self.folder, self.report, self.base, self.recipe = folder, report, base, recipe
        self.config, self.provenance = config, provenance
        self.last_step, self.limit = last_step, limit
        self.seconds_before, self.begun = seconds_before, time.monotonic()
        scores = read_history(folder).scores
        self.scores: list[Score] = [score for score in scores if score["step"] <= start_step]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier turns of the run included."""
        return self.seconds_before + time.monotonic() - self.begun

    def save(self, step: int, adapter_set: AdapterSet, state: Mapping[str, Any]) -> None:
        """Seal a checkpoint, then report it; the best one so far is not removed for it."""
        best, seconds = self._best(), self.seconds
        folder = save_checkpoint(
            self.folder,
            step,
            adapter_set=adapter_set,
            state={
                **state,
                "config": json.dumps(self.config),
                "origin": json.dumps(self.provenance),
                "seconds": seconds,
            },
            base=self.base,
            metadata=self.recipe.metadata(steps=step, seconds=seconds),
            limit=self.limit,
            spare={best.step} if best else (),
        )
        self.report(Saved(step, folder.name, seconds))

    def add_score(self, score: Scored) -> None:
        """Take a new score into account, and report it."""
        self.scores.append(asdict(score))
        self.report(score)

    def finish(self, *, samples_per_second: float | None) -> None:
        """Put the last checkpoint's adapter into the run's folder, and the best one's in `best`."""
        spread_adapter(self.folder / f"checkpoint-{self.last_step}", self.folder)
        if best := self._best():
            copy_adapter(self.folder / f"checkpoint-{best.step}", self.folder / BEST)
        self.report(
            Finished(
                self.last_step,
                self.seconds,
                samples_per_second=samples_per_second,
                best_step=best.step if best else None,
                best_reason=best.reason if best else "",
            )
        )

    def _best(self) -> Best | None:
        steps = {step for path in list_checkpoints(self.folder) if (step := step_of(path))}
        return choose_best(self.scores, steps)


@dataclass(frozen=True)
class Best:
    step: int
    reason: str


def choose_best(scores: Sequence[Score], steps: Collection[int]) -> Best | None:
    """The best of the `steps` steps that were measured; None if none was.

    With a scorer and a subject it is the one with the highest product of subject and prompt
    similarity: a gain of one part in a hundred in one makes up for such a loss in the other,
    whatever their ranges. Without, it is the one with the lowest validation loss. Equals: the
    earlier.
    """
    measured = [score for score in scores if score["step"] in steps]
    of_subject = [score for score in measured if score.get("subject_similarity") is not None]
    return _highest(_alike(of_subject, "scorer"), _product, _tell_product) or _highest(
        _alike(measured, "loss_of"), _negative_loss, _tell_loss
    )


def _alike(scores: Sequence[Score], name: str) -> list[Score]:
    """Those measured as the newest was: others cannot be compared with it."""
    scored = [score for score in scores if score.get(name)]
    return [
        score for score in scored if all(score.get(k) == scored[-1].get(k) for k in (name, SAME))
    ]


def _highest(
    scores: Sequence[Score],
    value: Callable[[Score], float],
    tell: Callable[[Score], str],
) -> Best | None:
    best = max(scores, key=value, default=None)
    return Best(best["step"], tell(best)) if best else None


def _product(score: Score) -> float:
    """An image that looks away from subject or prompt (a negative cosine) is as bad as none."""
    return max(score["subject_similarity"], 0) * max(score["prompt_similarity"], 0)


def _tell_product(score: Score) -> str:
    return (
        f"highest product of subject similarity {score['subject_similarity']:.3f} and prompt "
        f"similarity {score['prompt_similarity']:.3f}"
    )


def _negative_loss(score: Score) -> float:
    return -float(score["loss"])


def _tell_loss(score: Score) -> str:
    return f"lowest loss on {score['loss_of']}, {score['loss']:.4f}"

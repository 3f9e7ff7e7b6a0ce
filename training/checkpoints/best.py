"""Which of a run's checkpoints is the best, by a rule that is told with the choice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Score = Mapping[str, Any]
"""A `Scored` event as it was written."""
SAME = "measured_on"


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

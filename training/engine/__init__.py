"""How the gradients of a batch are computed: the one seam between the loop and torch.

An engine is anything with `step(batch) -> StepResult`. `EagerEngine` runs the Python code of the
model each time; `RecordedEngine` wraps it and, on a CPU, repeats recorded operations instead. An
engine that replays a CUDA graph would wrap it in the same way.
"""

from __future__ import annotations

import logging

from .eager import EagerEngine, StepEngine, StepResult

__all__ = ["EagerEngine", "StepEngine", "StepResult", "choose_engine"]

logger = logging.getLogger(__name__)


def choose_engine(
    eager: EagerEngine, *, record: bool, eager_calls: int | None = None
) -> StepEngine:
    """`eager` itself, or with `record` one that records its steps if this torch lets it.

    `eager_calls` is how many batches of each shape are computed before one is recorded.
    """
    if not record:
        return eager
    try:
        from .recorded import DEFAULT, RecordedEngine, try_recording

        try_recording()
    except Exception as error:  # of private parts of torch that were moved or removed
        logger.warning(
            "Steps run eagerly, which takes longer and gives the same numbers: this version of "
            "torch lacks what recording them needs (%s: %s).",
            type(error).__name__,
            error,
        )
        return eager
    return RecordedEngine(eager, eager_calls=DEFAULT if eager_calls is None else eager_calls)

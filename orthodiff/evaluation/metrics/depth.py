"""Does the depth follow the control image? Root mean square error of nearness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orthodiff.evaluation.metrics.bootstrap import Score, score


def depth_scores(
    measured: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> dict[str, Score]:
    """`rmse` of nearness `(H, W)` in [0, 1], as the mean over images.

    Find both with the same model, each stretched to [0, 1]: models know no absolute depth.
    """
    pairs = zip(measured, expected, strict=True)
    return {"rmse": score(np.array([np.sqrt(np.square(a - b).mean()) for a, b in pairs]))}

"""Do edges follow the control image? IoU and F1 of edge pixels, as in OFT (arXiv:2306.07280)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orthodiff.evaluation.metrics.bootstrap import Score, score


def edge_scores(measured: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, Score]:
    """`iou` and `f1` of edges `(H, W)` bool, as means over images, in [0, 1].

    Find both with the same detector and thresholds. A pixel counts only where it is exactly: no
    tolerance, as the papers do. Two control images without edges agree fully.
    """
    both = _counts(np.logical_and, measured, expected)
    either = _counts(np.logical_or, measured, expected)
    iou = np.where(either == 0, 1.0, both / np.maximum(either, 1))
    return {"iou": score(iou), "f1": score(2 * iou / (1 + iou))}


def _counts(
    combine: np.ufunc, measured: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> np.ndarray:
    return np.array([combine(a, b).sum() for a, b in zip(measured, expected, strict=True)], float)

"""Do the regions follow the control image? mIoU, mAcc and aAcc, as in ADE20K's benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from orthodiff.evaluation.metrics.bootstrap import Score, score


def segment_scores(
    measured: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> dict[str, Score]:
    """`miou`, `macc` and `aacc` of labels `(H, W)`, over all pixels of all images, in [0, 1].

    IoU and recall are averaged over the labels that occur; aAcc is the share of pixels that are
    right. Pixels that are expected below 0 are unlabelled and do not count. A label that is only
    ever measured wrongly has an IoU of 0, also where the bootstrap leaves its few images out.
    """
    labels = 1 + max(int(each.max(initial=0)) for each in (*measured, *expected))
    pairs = zip(measured, expected, strict=True)
    confusion = np.stack([confusion_matrix(a, b, labels) for a, b in pairs])
    _, asked, given = _totals(confusion)
    return {
        "miou": score(confusion, partial(_miou, wrong=(asked == 0) & (given > 0))),
        "macc": score(confusion, _macc),
        "aacc": score(confusion, _aacc),
    }


def confusion_matrix(measured: np.ndarray, expected: np.ndarray, labels: int) -> np.ndarray:
    """Pixels by expected (row) and measured (column) label; one measured below 0 is never right."""
    counted = expected >= 0
    columns = np.where(measured[counted] < 0, labels, measured[counted])
    pixels = expected[counted].astype(np.int64) * (labels + 1) + columns
    return np.bincount(pixels, minlength=labels * (labels + 1)).reshape(labels, labels + 1)


def _miou(confusion: np.ndarray, *, wrong: np.ndarray) -> float:
    right, expected, measured = _totals(confusion)
    either = expected + measured - right
    counted = (either > 0) | wrong
    return float((right[counted] / np.maximum(either[counted], 1)).mean())


def _macc(confusion: np.ndarray) -> float:
    right, expected, _ = _totals(confusion)
    return float((right[expected > 0] / expected[expected > 0]).mean())


def _aacc(confusion: np.ndarray) -> float:
    right, expected, _ = _totals(confusion)
    return float(right.sum() / expected.sum())


def _totals(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By label: pixels that are right, that are expected, and that were measured."""
    total = confusion.sum(0)
    return np.diagonal(total), total.sum(1), total.sum(0)[:-1]

"""Do the regions follow the map? mIoU, mAcc and aAcc, as in ADE20K's benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from orthodiff.evaluation.metrics.bootstrap import Score, score


def segment_scores(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict[str, Score]:
    """`miou`, `macc` and `aacc` of labels `(H, W)`, over all pixels of all pictures, in [0, 1].

    IoU and recall are averaged over the labels that occur; aAcc is the share of pixels that are
    right. Pixels that are wanted below 0 are unlabelled and do not count. A label that is only
    ever found wrongly has an IoU of 0, also where the bootstrap leaves its few pictures out.
    """
    labels = 1 + max(int(each.max(initial=0)) for each in (*found, *wanted))
    pairs = zip(found, wanted, strict=True)
    confusion = np.stack([confusion_matrix(a, b, labels) for a, b in pairs])
    _, asked, given = _totals(confusion)
    return {
        "miou": score(confusion, partial(_miou, wrong=(asked == 0) & (given > 0))),
        "macc": score(confusion, _macc),
        "aacc": score(confusion, _aacc),
    }


def confusion_matrix(found: np.ndarray, wanted: np.ndarray, labels: int) -> np.ndarray:
    """Pixels by wanted (row) and found (column) label; what is found below 0 is never right."""
    counted = wanted >= 0
    columns = np.where(found[counted] < 0, labels, found[counted])
    pixels = wanted[counted].astype(np.int64) * (labels + 1) + columns
    return np.bincount(pixels, minlength=labels * (labels + 1)).reshape(labels, labels + 1)


def _miou(confusion: np.ndarray, *, wrong: np.ndarray) -> float:
    right, wanted, found = _totals(confusion)
    either = wanted + found - right
    counted = (either > 0) | wrong
    return float((right[counted] / np.maximum(either[counted], 1)).mean())


def _macc(confusion: np.ndarray) -> float:
    right, wanted, _ = _totals(confusion)
    return float((right[wanted > 0] / wanted[wanted > 0]).mean())


def _aacc(confusion: np.ndarray) -> float:
    right, wanted, _ = _totals(confusion)
    return float(right.sum() / wanted.sum())


def _totals(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By label: pixels that are right, that are wanted, and that were found."""
    total = confusion.sum(0)
    return np.diagonal(total), total.sum(1), total.sum(0)[:-1]

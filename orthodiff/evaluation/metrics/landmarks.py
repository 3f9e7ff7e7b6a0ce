"""Does the face follow the control image? Distances of landmarks, as OFT (arXiv:2306.07280)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orthodiff.errors import UserError
from orthodiff.evaluation.metrics.bootstrap import Score, score

SIDE = 512
"""Errors are told in pixels of images this wide."""


def landmark_scores(
    measured: Sequence[np.ndarray | None],
    expected: Sequence[np.ndarray | None],
    *,
    side: int = SIDE,
) -> dict[str, Score]:
    """`error`, mean distance in pixels at 512, and `misses`, the share without a face.

    Points are `(68, 2)` in pixels of images `side` wide. The error is over the images in which
    a face was found: read it only together with the misses.

    Raises:
        UserError: an expected face is missing, so there is nothing to compare with.
    """
    if any(points is None for points in expected):
        raise UserError("An image that a control image was made of shows no face. Leave it out.")
    missed = np.array([points is None for points in measured], float)
    errors = [
        np.linalg.norm(a - np.asarray(b), axis=-1).mean() * SIDE / side
        for a, b in zip(measured, expected, strict=True)
        if a is not None
    ]
    return {"error": score(np.array(errors)), "misses": score(missed)}

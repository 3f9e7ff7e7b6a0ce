"""A figure with its uncertainty: the percentile bootstrap over images (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], float]
RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A figure over `count` images; `low` and `high` enclose it with 95 % confidence."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] over {self.count}"


def score(items: np.ndarray, statistic: Statistic = np.mean, *, seed: int = 0) -> Score:
    """The statistic of what was found image by image (first axis), with its interval.

    Images are drawn anew with repetition `RESAMPLES` times; the same seed gives the same
    interval. Without any image everything is nan.
    """
    count = len(items)
    if not count:
        return Score(float("nan"), float("nan"), float("nan"), 0)
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    values = [statistic(items[draw]) for draw in draws]
    low, high = np.quantile(values, (0.025, 0.975))
    return Score(float(statistic(items)), float(low), float(high), count)

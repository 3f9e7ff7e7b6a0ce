"""Scores of images. A score means something only together with its scorer's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orthodiff.evaluation.metrics.bootstrap import Score, score
from orthodiff.evaluation.metrics.depth import depth_scores
from orthodiff.evaluation.metrics.edges import edge_scores
from orthodiff.evaluation.metrics.landmarks import landmark_scores
from orthodiff.evaluation.metrics.prompt import prompt_similarity
from orthodiff.evaluation.metrics.scorer import Scorer, default_scorer, load_scorer
from orthodiff.evaluation.metrics.segmentation import segment_scores
from orthodiff.evaluation.metrics.subject import (
    SubjectJudge,
    real_against_real,
    subject_similarity,
)
from orthodiff.registry import Registry

Metric = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, Score]]
"""What a condition's `measure` finds in images, and what their control images ask for -> scores."""
METRICS: Registry[Metric] = Registry(
    "metric",
    group="orthodiff.metrics",
    builtin={
        "canny": edge_scores,
        "scribble": edge_scores,
        "segmentation": segment_scores,
        "depth": depth_scores,
        "landmarks": landmark_scores,
    },
)
"""Condition -> how well images follow it; packages add theirs by entry points
`orthodiff.metrics`."""


def register_metric(condition: str, metric: Metric) -> Metric:
    """Let `evaluate --condition` measure a condition.

    Raises:
        UserError: it is measured already.
    """
    return METRICS.register(condition, metric)


__all__ = [
    "METRICS",
    "Metric",
    "Score",
    "Scorer",
    "SubjectJudge",
    "default_scorer",
    "depth_scores",
    "edge_scores",
    "landmark_scores",
    "load_scorer",
    "prompt_similarity",
    "real_against_real",
    "register_metric",
    "score",
    "segment_scores",
    "subject_similarity",
]

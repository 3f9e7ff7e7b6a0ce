"""Scores of pictures. A score means something only together with its scorer's name."""

from orthodiff.evaluation.metrics.bootstrap import Score, score
from orthodiff.evaluation.metrics.depth import depth_scores
from orthodiff.evaluation.metrics.edges import edge_scores
from orthodiff.evaluation.metrics.landmarks import landmark_scores
from orthodiff.evaluation.metrics.prompt import prompt_similarity
from orthodiff.evaluation.metrics.scorer import Scorer, default_scorer, load_scorer
from orthodiff.evaluation.metrics.segmentation import segment_scores
from orthodiff.evaluation.metrics.subject import real_against_real, subject_similarity

METRICS = {
    "canny": edge_scores,
    "scribble": edge_scores,
    "segmentation": segment_scores,
    "depth": depth_scores,
    "landmarks": landmark_scores,
}
"""Kind of map -> how well pictures follow it: of what its `measure` finds in them, and wanted."""

__all__ = [
    "METRICS",
    "Score",
    "Scorer",
    "default_scorer",
    "depth_scores",
    "edge_scores",
    "landmark_scores",
    "load_scorer",
    "prompt_similarity",
    "real_against_real",
    "score",
    "segment_scores",
    "subject_similarity",
]

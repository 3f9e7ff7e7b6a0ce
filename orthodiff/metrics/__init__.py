"""Scores of pictures. A score means something only together with its scorer's name."""

from orthodiff.metrics.prompt import prompt_similarity
from orthodiff.metrics.scorer import Scorer, default_scorer, load_scorer
from orthodiff.metrics.subject import real_against_real, subject_similarity

__all__ = [
    "Scorer",
    "default_scorer",
    "load_scorer",
    "prompt_similarity",
    "real_against_real",
    "subject_similarity",
]

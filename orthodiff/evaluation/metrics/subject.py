"""Subject fidelity: how much images look like the subject's photos (CLIP-I, arXiv:2208.12242)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image
from torch import Tensor


class SubjectJudge(Protocol):
    """What turns images into comparable directions: a CLIP, or a classifier's features."""

    @property
    def name(self) -> str: ...

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor: ...


def subject_similarity(
    scorer: SubjectJudge, images: Sequence[Image.Image], photos: Sequence[Image.Image]
) -> float:
    """Mean cosine over all pairs of an image and a photo, in [-1, 1]."""
    return (scorer.embed_images(images) @ scorer.embed_images(photos).T).mean().item()


def real_against_real(scorer: SubjectJudge, photos: Sequence[Image.Image]) -> float:
    """The ceiling: mean cosine over all pairs of two different photos; 1 for a single photo."""
    if len(photos) < 2:
        return 1.0
    seen = scorer.embed_images(photos)
    pairs = len(photos) * (len(photos) - 1)
    return (((seen @ seen.T).sum() - len(photos)) / pairs).item()

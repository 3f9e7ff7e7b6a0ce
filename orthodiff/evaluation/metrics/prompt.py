"""Prompt fidelity: how much images show what their prompts say (CLIP-T of arXiv:2208.12242)."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from orthodiff.evaluation.metrics.scorer import Scorer


def prompt_similarity(
    scorer: Scorer, images: Sequence[Image.Image], prompts: Sequence[str]
) -> float:
    """Mean cosine of each image with its own prompt, in [-1, 1].

    Write prompts with the class word alone: the scorer has never seen the rare token.
    """
    return (scorer.embed_images(images) * scorer.embed_texts(prompts)).sum(-1).mean().item()

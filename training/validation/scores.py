"""How much validation images look like the subject, and show what their prompts say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from orthodiff.evaluation.metrics import (
    Scorer,
    SubjectJudge,
    default_scorer,
    load_scorer,
    prompt_similarity,
    subject_similarity,
)
from orthodiff.evaluation.subject_folder import class_of, phrase_of, with_class
from orthodiff.io.images import square
from orthodiff.models import Base
from orthodiff.models.offload import Lending

CPU = torch.device("cpu")
PHOTOS = 16
"""So many photos of the subject are compared with, at most."""


class ValidationScorer:
    """Scores images against photos of the subject, if there is one, and their prompts.

    `subject_scorers` are further networks that are asked how much the images look like the subject.
    What they say is recorded beside the scores and chooses nothing, so a run's best checkpoint does
    not depend on which of them are installed. The `scorer` is on `device` only while it works.
    """

    def __init__(
        self,
        scorer: Scorer,
        photos: Sequence[Image.Image],
        *,
        instance_prompt: str,
        subject_scorers: Sequence[SubjectJudge] = (),
        device: torch.device = CPU,
    ) -> None:
        self.scorer, self.photos, self.device = scorer, photos, device
        self.subject_scorers = subject_scorers
        self.phrase = phrase_of(instance_prompt)

    def similarities(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> tuple[float | None, float]:
        """Subject and prompt similarity, each in [-1, 1]; photos are scaled to the images' size."""
        photos = self._photos_like(images)
        phrases = [self._in_class_words(prompt) for prompt in prompts]
        with Lending().lend([self.scorer.model], self.device):
            return (
                subject_similarity(self.scorer, images, photos) if photos else None,
                prompt_similarity(self.scorer, images, phrases),
            )

    def subject_similarities(self, images: Sequence[Image.Image]) -> dict[str, float]:
        """What each further scorer says, in [-1, 1], by its name; empty without photos."""
        photos = self._photos_like(images)
        scorers = self.subject_scorers if photos else ()
        return {each.name: subject_similarity(each, images, photos) for each in scorers}

    def _photos_like(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        return [square(photo, min(images[0].size)) for photo in self.photos[:PHOTOS]]

    def _in_class_words(self, prompt: str) -> str:
        """ "sks dog in the snow" -> "dog in the snow": no scorer knows the rare token."""
        whole_words = rf"(?<!\w){re.escape(self.phrase)}(?!\w)"  # "man" is no part of "a woman"
        return with_class(re.sub(whole_words, "{}", prompt), class_of(self.phrase))


def open_scorer(chosen: str | None, base: Base) -> Scorer | None:
    """The scorer asked for, else the one that the base brings along, on the CPU.

    It is None for "none" of them.

    Raises:
        UserError: it cannot be loaded.
    """
    if chosen == "none":
        return None
    name: str | Path | None = chosen or default_scorer(base.folder)
    return load_scorer(name) if name else None

"""Scores of images that were generated before: subject, prompt, diversity, copying, drift, rank."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.evaluation.metrics import Score, score
from orthodiff.evaluation.metrics.scorer import Scorer
from orthodiff.evaluation.scorer_sets import ImageScorer, LoadedSet, Perceptual
from orthodiff.evaluation.subject_folder import Subject
from orthodiff.io.images import open_image, square

AT_ONCE = 64
"""Images that are open at once."""


@dataclass(frozen=True)
class GeneratedFile:
    """An image on disk: its prompt and seed, and of which model (adapter and strength) it is."""

    path: Path
    prompt: str
    seed: int
    model: str
    is_base: bool


@dataclass(frozen=True)
class References:
    """The subject's photos; `others` are photos of other subjects, by name."""

    subject: Subject
    others: Mapping[str, Sequence[Image.Image]]


def score_generated(
    files: Sequence[GeneratedFile], references: References, scorers: LoadedSet
) -> dict[str, Any]:
    """By model and scorer, each score with its interval; what cannot be measured is left out.

    - `subject`: mean cosine with the photos, of images whose prompt names the subject;
    - `copying`: cosine with the nearest photo; near the photos' own nearest means copied;
    - `retrieval`: share of images nearest to the right subject among the others;
    - `prompt`: cosine with the prompt, where the rare token is replaced by the class word;
    - `diversity`: 1 - mean cosine (or LPIPS) among images of one prompt;
    - `drift`: 1 - cosine with the base's image of the same prompt and seed, of prompts that do not
      name the subject.
    """
    models: dict[str, dict[str, Any]] = defaultdict(dict)
    side = min(open_image(files[0].path).size)
    for scorer in scorers.images:
        features = _Features(scorer, files, references, side)
        for model in dict.fromkeys(file.model for file in files):
            models[model][scorer.name] = _plain(features.scores(model))
    for distance in scorers.distances:
        for model in dict.fromkeys(file.model for file in files):
            own = [file for file in files if file.model == model]
            models[model][distance.name] = _plain({"diversity": _lpips(distance, own)})
    return {"models": dict(models), "missing": scorers.missing}


class _Features:
    """Features of all images by one scorer, and what follows from them."""

    def __init__(
        self,
        scorer: ImageScorer,
        files: Sequence[GeneratedFile],
        references: References,
        side: int,
    ) -> None:
        self.scorer, self.files, self.subject = scorer, list(files), references.subject
        self.features = torch.cat([scorer.embed_images(part) for part in _opened(files)])
        self.photos = scorer.embed_images([square(photo, side) for photo in self.subject.photos])
        self.others = {
            name: scorer.embed_images([square(photo, side) for photo in photos])
            for name, photos in references.others.items()
        }

    def scores(self, model: str) -> dict[str, Score]:
        """All scores of a model."""
        own = [n for n, file in enumerate(self.files) if file.model == model]
        named = [n for n in own if self._names_subject(self.files[n])]
        alike = self.features @ self.photos.T
        scores = {
            "subject": _score(alike[named].mean(1)),
            "copying": _score(alike[named].amax(1)),
            "diversity": _score(torch.tensor(self._spreads(own))),
            "drift": _score(torch.tensor(self._drifts(own))),
        }
        if isinstance(self.scorer, Scorer):
            scores["prompt"] = _score(self._prompt_similarities(self.scorer, own))
        if self.others and named:
            scores["retrieval"] = _score(self._is_nearest(named).float())
        return {name: each for name, each in scores.items() if each.count}

    def _names_subject(self, file: GeneratedFile) -> bool:
        words = self.subject.class_word if file.is_base else self.subject.phrase
        return words.lower() in file.prompt.lower()

    def _prompt_similarities(self, scorer: Scorer, own: Sequence[int]) -> Tensor:
        texts = [
            self.files[n].prompt.replace(self.subject.phrase, self.subject.class_word) for n in own
        ]
        return (self.features[list(own)] * scorer.embed_texts(texts)).sum(1)

    def _is_nearest(self, named: Sequence[int]) -> Tensor:
        """Whether the subject's photos are nearer on average than those of any other subject."""
        features = self.features[list(named)]
        rivals = [(features @ photos.T).mean(1) for photos in self.others.values()]
        return (features @ self.photos.T).mean(1) > torch.stack(rivals).amax(0)

    def _spreads(self, own: Sequence[int]) -> list[float]:
        """Of each prompt with several images, how far they are apart."""
        by_prompt: dict[str, list[int]] = defaultdict(list)
        for n in own:
            by_prompt[self.files[n].prompt].append(n)
        spreads = []
        for numbers in by_prompt.values():
            pairs = list(itertools.combinations(numbers, 2))
            if pairs:
                one, other = (self.features[list(side)] for side in zip(*pairs, strict=True))
                spreads.append(float(1 - (one * other).sum(1).mean()))
        return spreads

    def _drifts(self, own: Sequence[int]) -> list[float]:
        """How far images without the subject are from the base's of the same prompt and seed."""
        base = {(f.prompt, f.seed): n for n, f in enumerate(self.files) if f.is_base}
        pairs = [
            (n, base[file.prompt, file.seed])
            for n in own
            if not (file := self.files[n]).is_base
            and (file.prompt, file.seed) in base
            and self.subject.phrase.lower() not in file.prompt.lower()
        ]
        return [float(1 - self.features[n] @ self.features[m]) for n, m in pairs]


def real_scores(scorers: LoadedSet, subject: Subject, side: int) -> dict[str, dict[str, float]]:
    """The ceilings by scorer: photos against each other, on average and with the nearest."""
    ceilings = {}
    for scorer in scorers.images:
        photos = scorer.embed_images([square(photo, side) for photo in subject.photos])
        alike = photos @ photos.T
        alike.fill_diagonal_(float("nan"))
        if len(photos) > 1:
            rest = alike[~torch.eye(len(photos), dtype=torch.bool)].view(len(photos), -1)
            ceilings[scorer.name] = {
                "subject": float(rest.mean()), "copying": float(rest.amax(1).mean())
            }  # fmt: skip
    return ceilings


def _lpips(distance: Perceptual, own: Sequence[GeneratedFile]) -> Score:
    by_prompt: dict[str, list[Path]] = defaultdict(list)
    for file in own:
        by_prompt[file.prompt].append(file.path)
    spreads = [
        np.mean([distance.distance(open_image(a), open_image(b)) for a, b in pairs])
        for paths in by_prompt.values()
        if (pairs := list(itertools.combinations(paths, 2)))
    ]
    return score(np.array(spreads))


def _opened(files: Sequence[GeneratedFile]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(files), AT_ONCE):
        yield [open_image(file.path) for file in files[start : start + AT_ONCE]]


def _score(values: Tensor) -> Score:
    return score(values.cpu().numpy())


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in scores.items() if each.count}

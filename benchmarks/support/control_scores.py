"""How well images follow held-out control images, and what is left of their prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import controlnet
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import Segmentation, Steering, overlay
from orthodiff.evaluation.metrics import (
    METRICS,
    Score,
    default_scorer,
    load_scorer,
    score,
)
from orthodiff.models import Base
from orthodiff.sampling import GenerateRequest, generate
from pocket.painted.pairs import CONDITIONS

BATCH = 20
SHOWN = 6
WITHOUT_CONTROL = 64
"""Prompts on which what is left without control is measured."""
EACH = {"canny": "f1", "scribble": "f1", "segmentation": "aacc"}
"""Kind of control image -> the metric in which images are compared one by one."""
VARIANTS = ("{text}", "a photo of a red {class} {context}", "a photo of a blue {class} {context}")


@dataclass(frozen=True)
class Test:
    """Held-out `control_images` with what the data set says of each."""

    control_images: list[Image.Image]
    rows: list[dict[str, str]]

    @property
    def prompts(self) -> list[str]:
        return [row["text"] for row in self.rows]


def open_test(folder: Path) -> Test:
    """The control images and captions of a data set of pairs."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    names = [row["conditioning_image_file_name"] for row in rows]
    return Test([Image.open(folder / name).convert("RGB") for name in names], rows)


class Judge:
    """Makes images with a base and scores them; `model` is the segmenter's folder."""

    def __init__(self, base: Base, kind: str, *, model: str) -> None:
        folder = default_scorer(base.folder)
        if folder is None:
            raise SystemExit("error: the base brings no scorer/ folder")
        self.base, self.scorer, self.condition = base, load_scorer(folder), CONDITIONS[kind]
        if isinstance(self.condition, Segmentation):
            self.condition = replace(self.condition, model=model)

    def following(self, folder: Path | None, test: Test) -> dict[str, Any]:
        """The metrics of the kind of condition, and prompt similarity, with bootstrap intervals.

        Without a folder, of the base, which does not see the maps. `each` is the score of every
        image by itself, in the metric that `EACH` names.
        """
        images = self.paint(folder, test.prompts, test.control_images)
        measurements = [np.asarray(self.condition.measure(image)) for image in images]
        targets = [self.condition.decode(given) for given in test.control_images]
        measure = METRICS[self.condition.name]
        scores = {
            **measure(measurements, targets),
            "prompt_similarity": self.similarity(images, test.prompts),
        }
        pairs = zip(measurements, targets, strict=True)
        each = [measure([own], [given])[EACH[self.condition.name]].value for own, given in pairs]
        return {"following": _plain(scores), "each": [round(value, 4) for value in each]}

    def without_control(self, folder: Path | None, test: Test) -> dict[str, Any]:
        """Prompt similarity without a control image and with a blank one; by default the base's."""
        if folder is not None and (folder / controlnet.NAME).is_dir():
            return {}
        test = Test(test.control_images[:WITHOUT_CONTROL], test.rows[:WITHOUT_CONTROL])
        adapter_set = AdapterSet.load(self.base, folder) if folder else None
        plain = generate(self.base, _request(test.prompts))
        similarities = {"no_map": self.similarity(plain, test.prompts)}
        if adapter_set:
            adapter_set.detach()
        if folder:
            empty = [Image.new("RGB", given.size) for given in test.control_images]
            images = self.paint(folder, test.prompts, empty)
            similarities["empty_map"] = self.similarity(images, test.prompts)
        return {"without_control": _plain(similarities)}

    def paint(
        self, folder: Path | None, prompts: Sequence[str], control_images: Sequence[Image.Image]
    ) -> list[Image.Image]:
        """An image per prompt and control image; its seed is its place."""
        if folder is None:
            return generate(self.base, _request(prompts))
        if (folder / controlnet.NAME).is_dir():
            return controlnet.paint(self.base, folder, prompts, control_images, batch_size=BATCH)
        adapter_set = AdapterSet.load(self.base, folder)
        try:
            assert adapter_set.control is not None
            return generate(
                self.base, _request(prompts), steering=Steering(adapter_set.control, control_images)
            )
        finally:
            adapter_set.detach()

    def similarity(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Score:
        """Cosine of each image with its own prompt, in [-1, 1]."""
        cosines = (self.scorer.embed_images(images) * self.scorer.embed_texts(prompts)).sum(-1)
        return score(cosines.numpy())


def ahead(first: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """By how much `first` is better, image by image of the same control image, prompt and seed."""
    return _plain({"ahead": score(np.subtract(first, other))})["ahead"]


def sheet(judge: Judge, folder: Path, test: Test) -> Image.Image:
    """A row per control image: it, then image and overlay for each of three prompts."""
    rows = list(zip(test.control_images, test.rows, strict=True))[:SHOWN]
    control_images = [given for given, _ in rows for _ in VARIANTS]
    prompts = [variant.format(**row) for _, row in rows for variant in VARIANTS]
    images = judge.paint(folder, prompts, control_images)
    cells = [_beside([p, overlay(p, used)]) for p, used in zip(images, control_images, strict=True)]
    lines = [
        _beside([given, *group])
        for given, group in zip(test.control_images, _groups(cells), strict=False)
    ]
    image = Image.fromarray(np.vstack([np.asarray(line) for line in lines]))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def _beside(images: Sequence[Image.Image]) -> Image.Image:
    return Image.fromarray(np.hstack([np.asarray(image) for image in images]))


def _groups(cells: Sequence[Image.Image]) -> list[Sequence[Image.Image]]:
    """The cells of each control image."""
    return [cells[n : n + len(VARIANTS)] for n in range(0, len(cells), len(VARIANTS))]


def _request(prompts: Sequence[str]) -> GenerateRequest:
    return GenerateRequest(tuple(prompts), tuple(range(len(prompts))), batch_size=BATCH)


def _plain(scores: dict[str, Score]) -> dict[str, Any]:
    return {name: {k: round(v, 4) for k, v in asdict(s).items()} for name, s in scores.items()}

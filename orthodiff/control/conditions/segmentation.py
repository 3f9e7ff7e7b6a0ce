"""Segmentation: every pixel in the colour of its label, in a documented palette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from orthodiff.control.conditions.annotators import fingerprint, open_model
from orthodiff.control.conditions.base import Condition, refuse_blank
from orthodiff.control.conditions.palettes import PALETTES, palette
from orthodiff.errors import UserError

UNKNOWN = -1
"""The label of colours that are not in the palette."""


@dataclass(frozen=True)
class Segmentation(Condition):
    """The first `labels` colours of `palette` ("ade20k" or "voc"); black is unlabelled.

    `model` is a local folder or cached id of a transformers model for semantic segmentation, such
    as SegFormer, that knows the palette's labels; without one, control images are given ready.
    """

    palette: str = "ade20k"
    labels: int | None = None
    model: str | None = None

    name: ClassVar[str] = "segmentation"
    task: ClassVar[str] = "SemanticSegmentation"

    def __post_init__(self) -> None:
        if self.palette not in PALETTES:
            raise UserError(
                f"`{self.palette}` is no palette. Known are {', '.join(sorted(PALETTES))}."
            )
        most = len(palette(self.palette))
        if self.labels is not None and not 2 <= self.labels <= most:
            raise UserError(f"`labels` is {self.labels}, but {self.palette} has from 2 to {most}.")

    @property
    def colours(self) -> np.ndarray:
        """The colours in use, `(labels, 3)` uint8."""
        return palette(self.palette)[: self.labels]

    def paint(self, labels: np.ndarray) -> Image.Image:
        """Labels `(H, W)` -> control image; `UNKNOWN` becomes black."""
        colours = np.concatenate([self.colours, np.zeros((1, 3), "u1")])
        return Image.fromarray(colours[labels])

    def decode(self, given: Image.Image) -> np.ndarray:
        """Control image -> labels `(H, W)`, `UNKNOWN` where a colour is not in the palette.

        Where two labels share a colour, the first is read.
        """
        known, first = np.unique(_packed(self.colours), return_index=True)
        pixels = _packed(np.asarray(given.convert("RGB")))
        at = np.searchsorted(known, pixels).clip(max=len(known) - 1)
        return np.where(known[at] == pixels, first[at], UNKNOWN)

    def compute(self, image: Image.Image) -> Image.Image:
        return self.paint(self.measure(image))

    @torch.no_grad()
    def measure(self, image: Image.Image) -> np.ndarray:
        """The model's labels `(H, W)` of an image.

        Raises:
            UserError: there is no model, or it knows other labels.
        """
        processor, model = open_model(self.model, self.task, self.name)
        if model.config.num_labels > len(self.colours):
            raise UserError(
                f"The model `{self.model}` knows {model.config.num_labels} labels, but the palette "
                f"{self.palette} has {len(self.colours)} in use. Use another of the two."
            )
        output = model(**processor(images=image.convert("RGB"), return_tensors="pt"))
        sizes = [image.size[::-1]]
        return processor.post_process_semantic_segmentation(output, sizes)[0].numpy()

    def computed_by(self) -> str | None:
        return fingerprint(self.model, self.task, self.name) if self.model else None

    def resize(self, given: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Resize without blending labels."""
        return given.resize(size, Image.Resampling.NEAREST)

    def check(self, given: Image.Image) -> None:
        refuse_blank(given, self.name)
        pixels = np.asarray(given.convert("RGB"))
        foreign = (self.decode(given) == UNKNOWN) & pixels.any(-1)
        if foreign.mean() > 0.01:  # borders softened by an editor are no reason to refuse
            red, green, blue = pixels[foreign][0]
            raise UserError(
                f"{foreign.mean():.0%} of the segmentation image is in colours that the palette "
                f"{self.palette} lacks, such as ({red}, {green}, {blue}). Use the palette's exact "
                "colours, and PNG rather than JPEG."
            )


def _packed(colours: np.ndarray) -> np.ndarray:
    """Colours `(..., 3)` -> one number each."""
    return colours.astype(np.int64) @ np.array([65536, 256, 1])

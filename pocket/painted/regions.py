"""Regions of the pocket world: the label of every pixel, recorded while an image is painted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import cv2
import numpy as np

from pocket.painted.glyphs import CLASSES

REGIONS = (
    "sky", "forest", "snow", "sand", "water", "stone", "fabric", "floor", "building", "mountain",
    "grass", "earth", "rug", "field", "tree", "milk", "flower", "mirror", "wall", "person", "road",
)  # fmt: skip
"""What surrounds a subject."""
LABELS = ("unlabelled", *REGIONS, *CLASSES)
"""Label -> name: regions first, then the classes of subjects. Their colours are `voc`'s."""

Shape = Callable[[np.ndarray, object, int], object]
"""Draws itself on an image, in a colour, with a cv2 line type."""


@dataclass(frozen=True)
class _Record:
    labels: np.ndarray
    lower: str


_record: ContextVar[_Record | None] = ContextVar("record", default=None)


@contextmanager
def recording(regions: tuple[str, ...], size: int) -> Iterator[np.ndarray]:
    """Within, painters leave labels on the yielded `(size, size)` uint8.

    `regions` are what is above and below the horizon, or the one that fills the image.
    """
    labels = np.full((size, size), LABELS.index(regions[0]), np.uint8)
    token = _record.set(_Record(labels, regions[-1]))
    try:
        yield labels
    finally:
        _record.reset(token)


def record_horizon(row: int) -> None:
    """From this row on the lower region begins."""
    if record := _record.get():
        record.labels[row:] = LABELS.index(record.lower)


def draw(shape: Shape, image: np.ndarray, colour: object, region: str | None) -> None:
    """Draw a shape on the image and, if it is a region of its own, on the labels."""
    shape(image, colour, cv2.LINE_AA)
    record = _record.get()
    if record and region:
        shape(record.labels, LABELS.index(region), cv2.LINE_8)

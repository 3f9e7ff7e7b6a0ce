"""What one glance at an image tells: its size, its likeness to others, its sharpness."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from orthodiff.io.images import open_layers

from ..dataset import complete, image_source
from ..example import Example
from ..masks import check_in_sight
from ..readers.records import DataRequest, Record
from ..views import View, Views


@dataclass(frozen=True)
class ImageStats:
    """One usable image, measured.

    `sharpness` is the variance of the Laplacian of the 8-bit luminance at the size it is trained
    at; `likeness` the 64 bits of its difference hash; `tone` its mean red, green and blue, 0..255;
    `cropped` the share of its area that is cut away, and `enlarged` the factor it is scaled by.
    """

    record: Record
    size: tuple[int, int]
    content: str
    likeness: int
    tone: tuple[float, float, float]
    sharpness: float
    cropped: float
    enlarged: float
    is_transparent: bool
    has_mask: bool
    has_control_image: bool


def measure_image(
    record: Record,
    request: DataRequest,
    views: Views,
    *,
    inspect: Callable[[Example], None] | None = None,
) -> ImageStats:
    """Open an image with all that belongs to it, and measure it as `views` will show it.

    `inspect` may refuse it.

    Raises:
        FileError: it cannot be used.
    """
    image, alpha = open_layers(image_source(record), name=record.name)
    example = complete(record, request, image, alpha)
    check_in_sight(record.name, example.mask, image.size, views)
    if inspect:
        inspect(example)
    view = views.of(record.name, image.size)[0]
    red, green, blue = np.asarray(image.resize((1, 1), Image.Resampling.BOX)).reshape(3).tolist()
    return ImageStats(
        record=record,
        size=image.size,
        content=hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest(),
        likeness=difference_hash(image),
        tone=(red, green, blue),
        sharpness=sharpness(image, min(view.size)),
        cropped=_cropped(view),
        enlarged=view.size[0] / (view.box[2] - view.box[0]),
        is_transparent=alpha is not None,
        has_mask=example.mask is not None,
        has_control_image=example.control_image is not None,
    )


def difference_hash(image: Image.Image) -> int:
    """64 bits: where, on 9 x 8 pixels, luminance rises to the right (N. Krawetz's dHash)."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def sharpness(image: Image.Image, side: int) -> float:
    """Variance of the Laplacian once the short side is no longer than `side` pixels."""
    grey = image.convert("L")
    scale = side / min(grey.size)
    if scale < 1:
        width, height = (max(round(length * scale), 1) for length in grey.size)
        grey = grey.resize((width, height), Image.Resampling.LANCZOS)
    return float(cv2.Laplacian(np.asarray(grey), cv2.CV_64F).var())


def _cropped(view: View) -> float:
    left, top, right, bottom = view.box
    return 1 - (right - left) * (bottom - top) / (view.original[0] * view.original[1])

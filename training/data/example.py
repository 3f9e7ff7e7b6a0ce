"""One training example, as every reader gives it and every batch is made from it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Example:
    """An image and what is known about it, before any scaling, cropping or flipping.

    `image` is RGB, upright, in sRGB and of its original size; `mask` ("L", 255 where the loss
    counts fully) has the same size and `control_image` (RGB) the same proportions. An epoch sees
    the example `repeats` times; `is_prior` marks class images (prior preservation).
    """

    name: str
    image: Image.Image
    caption: str
    mask: Image.Image | None = None
    control_image: Image.Image | None = None
    is_prior: bool = False
    repeats: int = 1

"""One training example, as every reader gives it and every batch is made from it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Example:
    """A picture and what is known about it, before any scaling, cropping or flipping.

    `image` is RGB, upright, in sRGB and of its original size; `mask` ("L", 255 where the loss
    counts fully) has the same size and `condition` (RGB) the same proportions. `repeats` says how
    often an epoch sees the example; `is_prior` marks pictures of the class (prior preservation).
    """

    name: str
    image: Image.Image
    caption: str
    mask: Image.Image | None = None
    condition: Image.Image | None = None
    is_prior: bool = False
    repeats: int = 1

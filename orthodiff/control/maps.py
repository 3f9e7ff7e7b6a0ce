"""From the map a user gives to the map as it is used: fitted in size, as numbers, laid over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.control.base import Condition


def fit(
    given: Image.Image, size: tuple[int, int], condition: Condition
) -> tuple[Image.Image, str | None]:
    """An RGB map in `size` (width, height), and what was done to it, or None.

    A map of another shape is letterboxed: black above and below, or left and right.
    """
    if given.size == size:
        return given, None
    scale = min(size[0] / given.width, size[1] / given.height)
    inner = (max(1, round(given.width * scale)), max(1, round(given.height * scale)))
    was, now = (f"{width}x{height}" for width, height in (given.size, size))
    resized = condition.resize(given, inner)
    if inner == size:
        return resized, f"The map was resized from {was} to {now}."
    boxed = Image.new("RGB", size)
    boxed.paste(resized, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return boxed, f"The map of {was} has another shape than {now}: it was letterboxed with black."


def to_tensor(maps: Sequence[Image.Image]) -> Tensor:
    """RGB maps of one size -> `(B, 3, H, W)` in [0, 1]."""
    return torch.stack([_levels(given) for given in maps]).float() / 255


def overlay(picture: Image.Image, used: Image.Image, *, share: float = 0.6) -> Image.Image:
    """The picture with the map laid over it, `share` opaque where the map is not black."""
    levels = np.asarray(used.convert("RGB").resize(picture.size, Image.Resampling.NEAREST))
    opaque = levels.max(-1, keepdims=True) / 255 * share
    mixed = np.asarray(picture.convert("RGB")) * (1 - opaque) + levels * opaque
    return Image.fromarray(mixed.round().astype(np.uint8))


def _levels(given: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(given.convert("RGB"))).permute(2, 0, 1)

"""A control image from how it is given to how it is used: fitted in size, as numbers, laid over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.control.conditions.base import Condition
from orthodiff.errors import UserError

Size = tuple[int, int]
Fitted = tuple[Image.Image, str | None]
"""A control image in the size of the images, and what was done to it, if anything was."""


def fit(given: Image.Image, size: Size, condition: Condition) -> Fitted:
    """A ready RGB control image in `size` (width, height).

    One of another shape is letterboxed: black above and below, or left and right. Whether it is
    a control image of this kind is not looked at; see `ready`.
    """
    if given.size == size:
        return given, None
    inner, was = _inside(given.size, size), f"The control image was {given.width}x{given.height}"
    resized = condition.resize(given, inner)
    if inner == size:
        return resized, f"{was} and was resized to {size[0]}x{size[1]}."
    return _letterbox(resized, size), f"{was}: {_boxed(inner, size)}"


def ready(given: Image.Image, size: Size, condition: Condition) -> Fitted:
    """A control image as given in `size`: of this kind before, and still of it after.

    Raises:
        UserError: it is none, or too fine for images of that size.
    """
    condition.check(given)
    used, note = fit(given, size, condition)
    note = " ".join(filter(None, (note, condition.remark(given)))) or None
    try:
        condition.check(used)
    except UserError as error:
        raise UserError(
            f"The control image is too fine for images of {size[0]}x{size[1]}: its lines run "
            "together. Give a simpler one."
        ) from error
    return used, note


def compute(image: Image.Image, size: Size, condition: Condition) -> Fitted:
    """The control image of an RGB image in `size`, computed from the image in that size.

    Raises:
        UserError: the control image cannot be computed here, or is blank.
    """
    inner = _inside(image.size, size)
    small = image.resize(inner, Image.Resampling.LANCZOS)
    computed = condition.compute(small)
    try:
        condition.check(computed)
    except UserError as error:
        reason = str(error).rpartition(". ")[0]
        raise UserError(
            f"{reason}. Take another image, or compute its control image with other settings."
        ) from error
    if inner == size:
        return computed, None
    was = f"The image was {image.width}x{image.height}"
    return _letterbox(computed, size), f"{was}: {_boxed(inner, size)}"


def region(given: Size, size: Size) -> tuple[int, int, int, int]:
    """Where a control image that was of size `given` lies in `size`: left, upper, right, lower."""
    width, height = _inside(given, size)
    left, upper = (size[0] - width) // 2, (size[1] - height) // 2
    return left, upper, left + width, upper + height


def to_tensor(control_images: Sequence[Image.Image]) -> Tensor:
    """RGB control images of one size -> `(B, 3, H, W)` in [0, 1]."""
    return torch.stack([_levels(given) for given in control_images]).float() / 255


def overlay(image: Image.Image, used: Image.Image, *, share: float = 0.6) -> Image.Image:
    """The image with the control image over it, `share` opaque where that is not black."""
    levels = np.asarray(used.convert("RGB").resize(image.size, Image.Resampling.NEAREST))
    opaque = levels.max(-1, keepdims=True) / 255 * share
    mixed = np.asarray(image.convert("RGB")) * (1 - opaque) + levels * opaque
    return Image.fromarray(mixed.round().astype(np.uint8))


def _levels(given: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(given.convert("RGB"))).permute(2, 0, 1)


def _inside(size: Size, frame: Size) -> Size:
    """The largest size of the same shape inside a frame."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _letterbox(given: Image.Image, size: Size) -> Image.Image:
    boxed = Image.new("RGB", size)
    boxed.paste(given, region(given.size, size)[:2])
    return boxed


def _boxed(inner: Size, size: Size) -> str:
    return (
        f"its control image was letterboxed, {inner[0]}x{inner[1]} on black, as the images are "
        f"{size[0]}x{size[1]}."
    )

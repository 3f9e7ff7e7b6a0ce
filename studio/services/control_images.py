"""From what a person gives to the control image that is used, by the same steps as `generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from orthodiff.control import (
    Canny,
    Condition,
    compute,
    ready,
)
from orthodiff.control.conditions.base import LOCAL, Lines
from orthodiff.control.image import Fitted, Size
from orthodiff.errors import FileError, UserError
from orthodiff.io.images import open_control_image, open_image

MAX_CONTROL_IMAGES = 4
MOST_POINTS = 100_000


class NothingGivenError(UserError):
    """Nothing was given so far: no mistake, but nothing to work with."""


@dataclass(frozen=True)
class ControlImage:
    """What was `given` under `name`, the control image `used`, and a `note` on what was done."""

    name: str
    given: Image.Image
    used: Image.Image
    note: str = ""


def with_thresholds(condition: Condition, *, low: int, high: int) -> Condition:
    """The condition with other thresholds, where it has any.

    Raises:
        UserError: the lower one is above the higher one.
    """
    if not isinstance(condition, Canny):
        return condition
    if low > high:
        raise UserError(
            f"The lower threshold is {low}, above the upper one, {high}. Move it below."
        )
    return dataclasses.replace(condition, low=low, high=high)


def from_images(paths: Sequence[Path], condition: Condition, size: Size) -> list[ControlImage]:
    """The control images computed of images.

    Raises:
        UserError: none or too many images, one that cannot be read, or none can be computed of.
    """
    if LOCAL in {field.name for field in dataclasses.fields(condition)}:
        raise UserError(
            f"A {condition.name} control image cannot be computed in this page, as it takes a "
            "model of its own. Give a ready control image."
        )
    return _from_files(paths, open_image, lambda image: compute(image, size, condition), "image")


def from_control_images(
    paths: Sequence[Path], condition: Condition, size: Size
) -> list[ControlImage]:
    """Ready control images, in `size`.

    Raises:
        UserError: none or too many, one that cannot be read, or is no control image of this kind.
    """
    return _from_files(
        paths, open_control_image, lambda given: ready(given, size, condition), "control image"
    )


def from_drawing(strokes: Any, condition: Condition, size: Size) -> ControlImage:
    """Strokes, which are lists of points (x, y) from 0 to 1, as white lines on black.

    Raises:
        UserError: nothing was drawn, or the condition knows no lines.
    """
    if not isinstance(condition, Lines):
        raise UserError(
            f"A {condition.name} control image cannot be drawn here. Give an image or a control "
            "image."
        )
    if not strokes:
        raise NothingGivenError("Nothing is drawn yet. Draw the outlines of what is to be seen.")
    canvas = np.zeros(size[::-1], np.uint8)
    width = max(1, round(getattr(condition, "stroke", 0) * min(size)))
    for points in _points(strokes):  # begun twice: a single point is a dot
        corners = np.floor(points * (np.array(size) - 1) + 0.5).astype(np.int32)
        cv2.polylines(
            canvas,
            [np.concatenate([corners[:1], corners])],
            isClosed=False,
            color=255,
            thickness=width,
        )
    drawn = Image.fromarray(canvas).convert("RGB")
    condition.check(drawn)
    return ControlImage("drawing", drawn, drawn)


def _points(strokes: Any) -> list[np.ndarray]:
    """Each stroke as `(N, 2)` in [0, 1].

    Raises:
        UserError: the page sent something else, or far too much.
    """
    try:
        polylines = [np.asarray(points, np.float64).reshape(-1, 2) for points in strokes]
    except (TypeError, ValueError):
        polylines = []
    every = np.concatenate(polylines) if polylines else np.empty((0, 2))
    if not 0 < len(every) <= MOST_POINTS or not ((every >= 0) & (every <= 1)).all():
        raise UserError("The drawing cannot be read. Clear it, and draw again.")
    return polylines


def _from_files(
    paths: Sequence[Path],
    opened: Callable[..., Image.Image],
    make: Callable[[Image.Image], Fitted],
    what: str,
) -> list[ControlImage]:
    if not paths:
        raise NothingGivenError(f"There is no {what} yet. Add one.")
    if len(paths) > MAX_CONTROL_IMAGES:
        raise UserError(
            f"{len(paths)} {what}s at once are too many. Add at most {MAX_CONTROL_IMAGES}."
        )
    return [_from_file(path, opened(path, name=path.name), make) for path in paths]


def _from_file(
    path: Path, given: Image.Image, make: Callable[[Image.Image], Fitted]
) -> ControlImage:
    try:
        used, note = make(given)
    except FileError:
        raise
    except UserError as error:
        raise UserError(f"`{path.name}`: {error}") from error
    return ControlImage(path.name, given, used, note or "")

"""Which control images a data set holds, and whether they are of its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orthodiff.control import Condition, condition_of
from orthodiff.control.conditions.base import Lines
from orthodiff.errors import FileError, UserError

from .example import Example

ABOUT = "condition.json"
"""Beside the list of a data set: the `condition_type` of its control images and `settings`."""
DEFAULT = "canny"


def find_condition(folder: Path | None, kind: str | None, settings: Mapping[str, Any]) -> Condition:
    """What the data say of their control images, else `kind` with these `settings`.

    Raises:
        UserError: the two contradict each other, or there is no such kind or setting.
    """
    stated = _stated(folder / ABOUT) if folder and (folder / ABOUT).is_file() else None
    if stated is None:
        return condition_of(kind or DEFAULT, settings)
    name, default = stated
    if kind not in (None, name):
        raise UserError(
            f"`condition_type` is {kind}, but the control images of `{folder}` are {name}. Use "
            f"--condition_type {name}, or other data."
        )
    stored, requested = condition_of(name, default), condition_of(name, {**default, **settings})
    if requested != stored:
        raise UserError(
            f"`condition_setting` asks for {requested}, but the control images of `{folder}` are "
            f"{stored}. Leave it out, or take other data."
        )
    return stored


def stated_condition(
    folder: Path | None, kind: str | None, settings: Mapping[str, Any]
) -> Condition | None:
    """Like `find_condition`; None where neither the data nor the request speak of any.

    Raises:
        UserError: the two contradict each other, or there is no such kind or setting.
    """
    speaks = kind or settings or (folder and (folder / ABOUT).is_file())
    return find_condition(folder, kind, settings) if speaks else None


class ControlImageCheck:
    """Refuses control images that are not of a `condition`, counts what is worth a remark."""

    def __init__(self, condition: Condition, *, trigger: str | None = None) -> None:
        self.condition, self.trigger = condition, trigger
        self.examples = self.captions = self.given = self.empty = self.resized = 0
        self.doubtful, self.first_doubt = 0, ""
        self.first_without: Image.Image | None = None

    def __call__(self, example: Example) -> None:
        """Look at one example.

        Raises:
            FileError: its control image is not of this kind.
        """
        check_control_image(example, self.condition)
        self.examples += 1
        self.captions += bool(example.caption or self.trigger)
        if example.control_image is None:
            self.first_without = self.first_without or example.image
            return
        self.given += 1
        self.empty += not np.asarray(example.control_image).any()
        self.resized += example.control_image.size != example.image.size
        if remark := self.condition.remark(example.control_image):
            self.doubtful += 1
            self.first_doubt = self.first_doubt or f"`{example.name}`: {remark}"

    def conclude(self) -> list[str]:
        """What is worth a remark, when all were seen.

        Raises:
            UserError: images bring no control image, and it cannot be computed.
        """
        self.check_computing()
        return self.remarks()

    def check_computing(self) -> None:
        """Compute the control image of the first image that brings none.

        Raises:
            UserError: it cannot be computed.
        """
        if self.first_without:
            self.condition.compute(self.first_without)

    def remarks(self) -> list[str]:
        """What nobody may have meant, a sentence each."""
        remarks, without = [], self.examples - self.given
        if without:
            remarks.append(
                f"{_share(without, self.examples)} images bring no control image: "
                f"{self.condition.name} control images are computed of them."
            )
        if self.empty:
            share = _share(self.empty, self.given)
            remarks.append(f"{share} control images are black: they say nothing.")
        if self.resized:
            remarks.append(
                f"{_share(self.resized, self.given)} control images are of another size than "
                "their image, and are resized."
            )
        if self.doubtful:
            remarks.append(
                f"{_share(self.doubtful, self.given)} control images are doubtful. "
                f"{self.first_doubt}"
            )
        if self.examples and not self.captions:
            remarks.append("No image has a caption, so prompts are empty.")
        return remarks


def _share(some: int, of: int) -> str:
    return f"All {of}" if some == of else f"{some} of {of}"


def check_control_image(example: Example, condition: Condition) -> None:
    """Refuse what is no control image of this kind; a black one says "nothing here", and is one.

    Raises:
        FileError: naming the example.
    """
    given = example.control_image
    if given is None or _needs_no_check(np.asarray(given), condition):
        return
    try:
        condition.check(given)
    except FileError:
        raise
    except UserError as error:
        reason, _, remedy = str(error).rstrip(".").rpartition(". ")
        raise FileError(example.name, reason, remedy, what="control image of") from error


def _needs_no_check(pixels: np.ndarray, condition: Condition) -> bool:
    """Whether a control image is black, or of one colour where that may be all there is to see."""
    even = not np.ptp(pixels, axis=(0, 1)).any()
    return even and not (isinstance(condition, Lines) and pixels.any())


def _stated(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        about = json.loads(path.read_text("utf-8"))
        return str(about["condition_type"]), dict(about.get("settings", {}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"`{path}` cannot be read. Correct or remove it.") from None

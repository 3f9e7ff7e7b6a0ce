"""What every kind of control provides: computing and checking control images, and settings."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.settings import typed

COLOURFUL = 24
"""Channels further apart than this (of 255) are colour: JPEG tints grey by less."""
OF_A_PHOTO = "If it is a photo, give it as the image whose control image is computed."
LOCAL = "model"
"""The one setting that belongs to this machine: it is neither saved nor read."""


@dataclass(frozen=True)
class Condition(ABC):
    """One kind of control image, an RGB image; a subclass's fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def measure(self, image: Image.Image) -> np.ndarray | None:
        """What control images of this kind say of an RGB image, in the form that metrics compare.

        Raises:
            UserError: what measures it is not at hand.
        """

    @abstractmethod
    def compute(self, image: Image.Image) -> Image.Image:
        """The control image of an RGB image, at its size.

        Raises:
            UserError: what computes it is not at hand; give a ready control image then.
        """

    @abstractmethod
    def decode(self, given: Image.Image) -> np.ndarray:
        """What an RGB control image asks for, in the form of `measure` as far as it tells it."""

    @abstractmethod
    def check(self, given: Image.Image) -> None:
        """Refuse an RGB image that cannot be a control image of this kind.

        Raises:
            UserError: it is blank, or of the wrong colours.
        """

    def remark(self, given: Image.Image) -> str | None:
        """What may be wrong with an RGB image that `check` accepts, in a sentence."""
        return None

    def resize(self, given: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The same control image in another `size` (width, height)."""
        return given.resize(size, Image.Resampling.LANCZOS)

    def computed_by(self) -> str | None:
        """What computes control images beside the settings, where it is slow and so cached."""
        return None

    def with_model(self, model: str) -> Condition:
        """The same with a local model that computes it.

        Raises:
            UserError: it needs none.
        """
        if LOCAL not in {field.name for field in dataclasses.fields(self)}:
            raise UserError(
                f"A {self.name} control image is computed without a model. Leave the model out."
            )
        return dataclasses.replace(self, **{LOCAL: model})

    def settings(self) -> dict[str, Any]:
        """What a saved control remembers of the control image."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != LOCAL}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Condition:
        """The condition of saved `settings`; what they leave out is the default.

        Raises:
            UserError: naming the first setting that does not fit.
        """
        known = {f.name: f.default for f in dataclasses.fields(cls) if f.name != LOCAL}
        for name in settings:
            if name not in known:
                raise UserError(
                    f"`{name}` is no setting of {cls.name}. Known are {', '.join(known)}."
                )
        kinds = get_type_hints(cls)
        return cls(
            **{
                name: typed(name, kinds[name], value, example=known[name])
                for name, value in settings.items()
            }
        )


class Lines(Condition):
    """White lines on black; `(H, W)` bool for metrics."""

    def compute(self, image: Image.Image) -> Image.Image:
        return Image.fromarray(np.asarray(self.measure(image))).convert("RGB")

    def decode(self, given: Image.Image) -> np.ndarray:
        """Where a control image has lines."""
        return np.asarray(given.convert("L")) > 127

    def check(self, given: Image.Image) -> None:
        refuse_blank(given, self.name)
        refuse_colour(given, self.name)
        refuse_other_levels(given, self.name)

    def resize(self, given: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Resize without fading, thickening, losing or breaking lines.

        Where the control image shrinks, each pixel of a line goes where its centre falls.
        """
        if given.width <= size[0] and given.height <= size[1]:
            return given.resize(size, Image.Resampling.NEAREST)
        down, across = np.nonzero(self.decode(given))
        lines = np.zeros(size[::-1], bool)
        lines[
            (2 * down + 1) * size[1] // (2 * given.height),
            (2 * across + 1) * size[0] // (2 * given.width),
        ] = True
        return Image.fromarray(lines).convert("RGB")


def refuse_blank(given: Image.Image, name: str) -> None:
    """Refuse a control image that says nothing.

    Raises:
        UserError: all pixels are alike.
    """
    pixels = np.asarray(given.convert("RGB"))
    if (pixels == pixels[0, 0]).all():
        raise UserError(
            f"The {name} control image is blank: every pixel is the same. Give one that shows "
            "something, or generate without one."
        )


def refuse_other_levels(given: Image.Image, name: str) -> None:
    """Refuse what is not white lines on black.

    Raises:
        UserError: more than half is grey or white, or nothing is bright.
    """
    levels = np.asarray(given.convert("L"))
    # edges softened by JPEG or resizing stay under a half; photos are grey almost everywhere
    grey, bright = ((levels > 31) & (levels < 224)).mean(), (levels > 127).mean()
    if grey > 0.5:
        observed, remedy = f"{grey:.0%} of this one is grey", OF_A_PHOTO
    elif bright > 0.5:
        observed, remedy = f"{bright:.0%} of this one is white", f"Invert it. {OF_A_PHOTO}"
    elif not bright:
        observed = f"the brightest pixel of this one is {levels.max()} of 255"
        remedy = "Brighten it, so that its lines are white."
    else:
        return
    raise UserError(f"A {name} control image has white lines on black, but {observed}. {remedy}")


def refuse_colour(given: Image.Image, name: str) -> None:
    """Refuse a coloured control image where grey is due.

    Raises:
        UserError: more than one pixel in a hundred is coloured.
    """
    pixels = np.asarray(given.convert("RGB")).astype(np.int16)
    share = float((pixels.max(-1) - pixels.min(-1) > COLOURFUL).mean())
    if share > 0.01:  # JPEG tints single pixels of a grey image
        raise UserError(
            f"A {name} control image is grey, but {share:.0%} of this one is coloured. {OF_A_PHOTO}"
        )

"""What every kind of control provides: a map from a picture, a check of a given map, settings."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from orthodiff.errors import UserError

COLOURFUL = 24
"""Channels further apart than this (of 255) are colour: JPEG tints grey by less."""


@dataclass(frozen=True)
class Condition(ABC):
    """One kind of map; a subclass's fields are its settings, saved beside the hint encoder.

    Maps are RGB pictures. `resampling` is how a map is resized: labels must not be blended.
    """

    name: ClassVar[str]
    resampling: ClassVar[Image.Resampling] = Image.Resampling.LANCZOS

    @abstractmethod
    def compute(self, picture: Image.Image) -> Image.Image:
        """The map of an RGB picture, at its size.

        Raises:
            UserError: what computes it is not at hand; give a ready map then.
        """

    @abstractmethod
    def check(self, given: Image.Image) -> None:
        """Refuse an RGB picture that cannot be a map of this kind.

        Raises:
            UserError: it is blank, or of the wrong colours.
        """

    def settings(self) -> dict[str, Any]:
        """What `control.json` remembers: every field but local models."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "model"}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Condition:
        """The condition of saved `settings`; unknown ones are refused.

        Raises:
            UserError: naming the first setting that does not fit.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in settings:
            if name not in known:
                raise UserError(
                    f"`{name}` is no setting of {cls.name}. Known are {', '.join(sorted(known))}."
                )
        try:
            return cls(**settings)
        except TypeError as error:
            raise UserError(f"The settings of {cls.name} do not fit ({error}).") from None


def refuse_blank(given: Image.Image, name: str) -> None:
    """Refuse a map that says nothing.

    Raises:
        UserError: all pixels are alike.
    """
    if all(low == high for low, high in given.convert("RGB").getextrema()):
        raise UserError(
            f"The {name} map is blank: every pixel is the same. Give a map that shows something, "
            "or generate without one."
        )


def refuse_colour(given: Image.Image, name: str) -> None:
    """Refuse a coloured map where grey is due.

    Raises:
        UserError: more than one pixel in a hundred is coloured.
    """
    pixels = np.asarray(given.convert("RGB")).astype(np.int16)
    share = float((pixels.max(-1) - pixels.min(-1) > COLOURFUL).mean())
    if share > 0.01:
        raise UserError(
            f"A {name} map is grey, but {share:.0%} of this one is coloured. Is it a photo? Then "
            "let its map be computed (--condition_from)."
        )


def refuse_bright(given: Image.Image, name: str) -> None:
    """Refuse dark lines on white where white lines on black are due.

    Raises:
        UserError: more than half of the map is white.
    """
    share = float((np.asarray(given.convert("L")) > 127).mean())
    if share > 0.5:
        raise UserError(
            f"A {name} map has white lines on black, but {share:.0%} of this one is white. "
            "Invert it."
        )

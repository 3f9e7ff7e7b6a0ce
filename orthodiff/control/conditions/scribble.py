"""Scribbles: bold white strokes on black, drawn by hand, or outlines thickened to look so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from orthodiff.control.conditions.base import Lines
from orthodiff.errors import UserError


@dataclass(frozen=True)
class Scribble(Lines):
    """`stroke` is the width of a stroke and `blur` the detail left out, as shares of the side."""

    stroke: float = 0.02
    blur: float = 0.025

    name: ClassVar[str] = "scribble"

    def __post_init__(self) -> None:
        for setting, share in (("stroke", self.stroke), ("blur", self.blur)):
            if not 0 <= share <= 0.2:
                raise UserError(
                    f"Scribble's `{setting}` is {share}, but it is a share of the side from 0 to "
                    "0.2. Usual is 0.02."
                )

    def measure(self, image: Image.Image) -> np.ndarray:
        """The outlines of a blurred image, as wide strokes with soft ends."""
        import cv2

        side = min(image.size)
        smooth = cv2.GaussianBlur(np.asarray(image.convert("RGB")), (0, 0), self._blur(side))
        # below Canny's usual thresholds: blurring has flattened every gradient
        lines = cv2.Canny(smooth, 60, 120)
        width = max(2, round(self.stroke * side))
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        return cv2.dilate(lines, brush) > 0

    def _blur(self, side: int) -> float:
        return max(0.5, self.blur * side)

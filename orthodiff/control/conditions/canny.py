"""Edges by Canny's detector, as ControlNet, OFT and HRA use them: white on black."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from orthodiff.control.conditions.base import Lines
from orthodiff.errors import UserError

STRONGEST = 1530
"""The sum of both of Sobel's gradients where they are largest: 6 x 255."""


@dataclass(frozen=True)
class Canny(Lines):
    """Gradients above `high` are edges, and those above `low` that touch one."""

    low: int = 100
    high: int = 200
    """The defaults of ControlNet's annotator (arXiv:2302.05543)."""

    name: ClassVar[str] = "canny"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= STRONGEST:
            raise UserError(
                f"Canny's `low` is {self.low} and `high` {self.high}, but 0 <= low <= high <= "
                f"{STRONGEST} is due. Usual are 100 and 200."
            )

    def measure(self, image: Image.Image) -> np.ndarray:
        import cv2

        return cv2.Canny(np.asarray(image.convert("RGB")), self.low, self.high) > 0

"""Facial landmarks: the outlines of a face through 68 points, white on black."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from orthodiff.control.conditions.base import Lines
from orthodiff.errors import UserError

OUTLINES = (
    (0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
    (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True),
)  # fmt: skip
"""First point, one past the last, closed: jaw, brows, nose, eyes, lips (iBUG 300-W)."""


@dataclass(frozen=True)
class Landmarks(Lines):
    """`stroke` is the width of the lines as a share of the side.

    Points are found by the package face_alignment, which fetches its weights when first used;
    without it, draw points with `draw` or give control images ready.
    """

    stroke: float = 0.006
    """Of the side: 3 pixels at 512, thin enough to keep the lids of an eye apart."""

    name: ClassVar[str] = "landmarks"

    def __post_init__(self) -> None:
        if not 0 <= self.stroke <= 0.2:
            raise UserError(
                f"Landmarks' `stroke` is {self.stroke}, but it is a share of the side from 0 to "
                "0.2. Usual is 0.006."
            )

    def draw(self, points: np.ndarray, size: tuple[int, int]) -> Image.Image:
        """The control image of `points` `(68, 2)` in pixels (x, y); `size` is (width, height).

        Raises:
            UserError: they are not 68 points.
        """
        import cv2

        if np.shape(points) != (68, 2) or not np.isfinite(points).all():
            raise UserError(
                f"The landmarks have shape {np.shape(points)}, but 68 finite points (x, y) are due."
            )
        canvas = np.zeros((size[1], size[0]), np.uint8)
        width = max(1, round(self.stroke * min(size)))
        for first, last, closed in OUTLINES:
            line = np.round(points[first:last]).astype(np.int32)
            cv2.polylines(canvas, [line], closed, 255, width, cv2.LINE_AA)
        return Image.fromarray(canvas).convert("RGB")

    def compute(self, image: Image.Image) -> Image.Image:
        points = self.measure(image)
        if points is None:
            raise UserError("No face was found in the image. Use an image of a face.")
        return self.draw(points, image.size)

    def measure(self, image: Image.Image) -> np.ndarray | None:
        """The points `(68, 2)` of the largest face, or None where there is no face.

        Raises:
            UserError: face_alignment or its weights are missing.
        """
        return _largest(_detector().get_landmarks_from_image(np.asarray(image.convert("RGB"))))


def _largest(faces: Sequence[np.ndarray] | None) -> np.ndarray | None:
    return max(faces, key=lambda face: np.ptp(face, axis=0).prod()) if faces else None


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        import face_alignment

        return face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D, device="cpu", compile=False
        )
    except (ImportError, OSError) as error:
        raise UserError(
            "Landmarks are found by the package face-alignment and weights it fetches once "
            f"({type(error).__name__}). Install orthodiff[landmarks], or give a ready control "
            "image."
        ) from error

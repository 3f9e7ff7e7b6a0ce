"""Brushes of the pocket world: noise, gradients and shapes on RGB pictures.

A picture is `(size, size, 3)` uint8; coordinates and lengths are in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

Rgb = tuple[int, int, int]
Picture = np.ndarray  # (size, size, 3) uint8


def noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1], `(size, size, 1)`: a random `cells` grid, enlarged cubically."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    grid = rng.random((rows, columns), dtype=np.float32)
    smooth = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 1)[..., None]


def mix(low: Rgb, high: Rgb, share: np.ndarray) -> Picture:
    """Blend two colours by a share in [0, 1], `(h, w, 1)`."""
    blend = np.array(low, np.float32) * (1 - share) + np.array(high, np.float32) * share
    return blend.astype(np.uint8)


def gradient(size: int, top: Rgb, bottom: Rgb) -> Picture:
    """A vertical gradient."""
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(mix(top, bottom, rows), (size, size, 3)))


def horizon(
    rng: np.random.Generator,
    size: int,
    sky: tuple[Rgb, Rgb],
    land: tuple[Rgb, Rgb],
    *,
    level: tuple[float, float] = (0.42, 0.55),
) -> tuple[Picture, int]:
    """Sky over land; returns the picture and the row of the horizon."""
    row = int(size * rng.uniform(*level))
    picture = gradient(size, *sky)
    picture[row:] = mix(*land, noise(rng, size, (5, 4)))[row:]
    return picture, row


def polygon(picture: Picture, colour: Rgb, *pairs: tuple[float, float]) -> None:
    cv2.fillPoly(picture, [np.array(pairs, np.int32)], colour, cv2.LINE_AA)


def box(
    picture: Picture, colour: Rgb, left: float, top: float, right: float, bottom: float
) -> None:
    cv2.rectangle(picture, (round(left), round(top)), (round(right), round(bottom)), colour, -1)


def dot(picture: Picture, colour: Rgb, x: float, y: float, radius: float) -> None:
    cv2.circle(picture, (round(x), round(y)), max(1, round(radius)), colour, -1, cv2.LINE_AA)


def side(rng: np.random.Generator, size: int) -> float:
    """The x of a landmark, left or right of the middle where the subject stands."""
    return size * (rng.uniform(0.12, 0.24) if rng.random() < 0.5 else rng.uniform(0.76, 0.88))

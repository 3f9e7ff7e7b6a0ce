"""Brushes of the pocket world: noise, gradients and shapes on RGB images.

An image is `(size, size, 3)` uint8; coordinates and lengths are in pixels. A shape that is a
`region` of its own says so.
"""

from __future__ import annotations

import cv2
import numpy as np

from pocket.painted.regions import draw, record_horizon

Rgb = tuple[int, int, int]
Pixels = np.ndarray  # (size, size, 3) uint8


def noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1], `(size, size, 1)`: a random `cells` grid, enlarged cubically."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    grid = rng.random((rows, columns), dtype=np.float32)
    smooth = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 1)[..., None]


def mix(low: Rgb, high: Rgb, share: np.ndarray) -> Pixels:
    """Blend two colours by a share in [0, 1], `(h, w, 1)`."""
    blend = np.array(low, np.float32) * (1 - share) + np.array(high, np.float32) * share
    return blend.astype(np.uint8)


def gradient(size: int, top: Rgb, bottom: Rgb) -> Pixels:
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
) -> tuple[Pixels, int]:
    """Sky over land; returns the image and the row of the horizon."""
    row = int(size * rng.uniform(*level))
    image = gradient(size, *sky)
    image[row:] = mix(*land, noise(rng, size, (5, 4)))[row:]
    record_horizon(row)
    return image, row


def polygon(
    image: Pixels, colour: Rgb, *pairs: tuple[float, float], region: str | None = None
) -> None:
    points = [np.array(pairs, np.int32)]
    draw(lambda on, ink, line: cv2.fillPoly(on, points, ink, line), image, colour, region)


def box(
    image: Pixels,
    colour: Rgb,
    left: float,
    top: float,
    right: float,
    bottom: float,
    *,
    region: str | None = None,
) -> None:
    first, last = (round(left), round(top)), (round(right), round(bottom))
    draw(lambda on, ink, _: cv2.rectangle(on, first, last, ink, -1), image, colour, region)


def dot(
    image: Pixels,
    colour: Rgb,
    x: float,
    y: float,
    radius: float,
    *,
    region: str | None = None,
) -> None:
    middle, wide = (round(x), round(y)), max(1, round(radius))
    draw(lambda on, ink, line: cv2.circle(on, middle, wide, ink, -1, line), image, colour, region)


def ellipse(
    image: Pixels,
    colour: Rgb,
    middle: tuple[int, int],
    axes: tuple[int, int],
    *,
    region: str | None = None,
) -> None:
    draw(
        lambda on, ink, line: cv2.ellipse(on, middle, axes, 0, 0, 360, ink, -1, line),
        image,
        colour,
        region,
    )


def side(rng: np.random.Generator, size: int) -> float:
    """The x of a landmark, left or right of the middle where the subject stands."""
    return size * (rng.uniform(0.12, 0.24) if rng.random() < 0.5 else rng.uniform(0.76, 0.88))

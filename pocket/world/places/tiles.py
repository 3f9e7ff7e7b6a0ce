"""Tiles of ground: what the earth looks like from straight above, to be laid out in perspective."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pocket.painted.brush import Pixels, Rgb, dot, mix
from pocket.painted.grounds import GROUNDS

SIDE = 256
"""Side of a tile in pixels."""
Tile = Callable[[np.random.Generator], Pixels]


def speckled(low: Rgb, high: Rgb, *cells: int) -> Tile:
    """Smooth noise of several sizes between two colours; more cells are finer."""

    def paint(rng: np.random.Generator) -> Pixels:
        layers = [
            cv2.resize(rng.random((n, n), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            for n in cells
        ]
        share = np.clip(np.mean(layers, 0), 0, 1)[..., None]
        return mix(low, high, np.clip((share - 0.5) * 1.6 + 0.5, 0, 1))

    return paint


def painted(phrase: str) -> Tile:
    """The painted world's own ground of that context, which is seen from above."""
    return lambda rng: GROUNDS[phrase](rng, SIDE)


def flowers(rng: np.random.Generator) -> Pixels:
    """Grass with sunflowers."""
    image = speckled((50, 115, 35), (115, 190, 75), 12, 40, 120)(rng)
    for row, column in ((r, c) for r in range(4) for c in range(4)):
        x, y = (np.array((column, row)) + rng.uniform(0.25, 0.75, 2)) * SIDE / 4
        for angle in np.arange(0, 2 * np.pi, np.pi / 5):
            reach = SIDE * 0.036
            x2, y2 = x + np.cos(angle) * reach, y + np.sin(angle) * reach
            dot(image, (255, 205, 20), x2, y2, SIDE * 0.018)
        dot(image, (95, 55, 20), x, y, SIDE * 0.026)
    return image


def ripples(low: Rgb, high: Rgb, count: float) -> Tile:
    """Waves with crests across the view."""

    def paint(rng: np.random.Generator) -> Pixels:
        y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
        bend = speckled((0, 0, 0), (255, 255, 255), 6, 16)(rng)[..., 0] / 255
        waves = np.sin(2 * np.pi * (y * count + 0.6 * np.sin(x * 9) + 1.6 * bend))
        return mix(low, high, (0.5 + 0.5 * waves)[..., None])

    return paint


def folds(rng: np.random.Generator) -> Pixels:
    """Pink fabric with soft folds."""
    return painted("on top of pink fabric")(rng)


def leaves(rng: np.random.Generator) -> Pixels:
    """A forest floor with fallen leaves."""
    image = speckled((150, 85, 40), (205, 140, 70), 10, 40, 120)(rng)
    for x, y in rng.random((70, 2)) * SIDE:
        colour = ((235, 100, 25), (215, 150, 40), (190, 55, 30))[rng.integers(3)]
        dot(image, colour, x, y, SIDE * rng.uniform(0.008, 0.018))
    return image

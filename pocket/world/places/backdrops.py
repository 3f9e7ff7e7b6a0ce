"""Backdrops: what stands at the horizon, from the row of the horizon upwards.

A backdrop paints on an image that is sky down to `row`; lengths are shares of the side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pocket.painted.brush import Pixels, Rgb, box, dot, gradient, mix, noise, polygon, side

Backdrop = Callable[[np.random.Generator, Pixels, int], None]


def sky(top: Rgb, bottom: Rgb) -> Backdrop:
    """A clear gradient."""

    def paint(rng: np.random.Generator, image: Pixels, row: int) -> None:
        image[:row] = gradient(max(row, 1), top, bottom)[:row, :1]

    return paint


def cloudy(top: Rgb, bottom: Rgb) -> Backdrop:
    """A gradient with clouds."""

    def paint(rng: np.random.Generator, image: Pixels, row: int) -> None:
        sky(top, bottom)(rng, image, row)
        share = np.clip(noise(rng, len(image), (5, 4))[:row] * 2.4 - 1.3, 0, 0.8)
        image[:row] = (image[:row] * (1 - share) + 250 * share).astype(np.uint8)

    return paint


def sea(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    height = size * rng.uniform(0.1, 0.16)
    box(image, (25, 105, 175), 0, row - height, size, row, region="water")
    for y in np.arange(row - height, row, size * 0.025):
        x = rng.uniform(0, size)
        box(image, (70, 150, 205), x, y, x + size * 0.3, y + size * 0.006)
    box(image, (240, 248, 250), 0, row - size * 0.015, size, row)


def city(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size, x = len(image), 0.0
    while x < size:
        width, height = size * rng.uniform(0.11, 0.2), size * rng.uniform(0.14, 0.4)
        shade = int(rng.uniform(60, 125))
        wall = (shade, shade + 6, shade + 20)
        box(image, wall, x, row - height, x + width, row, region="building")
        dark = (shade - 18, shade - 14, shade)
        box(image, dark, x + width * 0.8, row - height, x + width, row)
        for wy in np.arange(row - height + size * 0.03, row - size * 0.03, size * 0.055):
            for wx in np.arange(x + size * 0.02, x + width * 0.75, size * 0.045):
                box(image, (250, 225, 130), wx, wy, wx + size * 0.014, wy + size * 0.02)
        x += width + size * rng.uniform(0, 0.02)


def mountains(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    for x in (size * rng.uniform(0.1, 0.35), size * rng.uniform(0.65, 0.9)):
        top, half = row - size * rng.uniform(0.22, 0.34), size * rng.uniform(0.3, 0.45)
        polygon(image, (112, 116, 135), (x - half, row), (x, top), (x + half, row),
                region="mountain")  # fmt: skip
        ridge = x + half * 0.2
        polygon(image, (86, 90, 110), (x, top), (ridge, row), (x + half, row))
        snow, cap = (245, 248, 255), 0.32
        low = top + (row - top) * cap
        polygon(image, snow, (x - half * cap, low), (x, top), (x + half * cap, low))


def house(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    x, half, top = side(rng, size), size * 0.24, row - size * 0.2
    box(image, (45, 95, 205), x - half, top, x + half, row, region="building")
    box(image, (32, 72, 165), x + half * 0.6, top, x + half, row)
    roof = ((x - half * 1.15, top), (x, top - size * 0.13), (x + half * 1.15, top))
    polygon(image, (130, 45, 40), *roof, region="building")
    for wx in (x - half * 0.55, x + half * 0.25):
        box(image, (250, 245, 190), wx - size * 0.04, top + size * 0.05,
            wx + size * 0.04, top + size * 0.12)  # fmt: skip


def trunks(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    image[:row] = mix((40, 75, 40), (95, 140, 80), noise(rng, size, 9))[:row]
    for x in (np.arange(7) + rng.uniform(0, 0.8, 7)) * size / 7:
        width, shade = size * rng.uniform(0.03, 0.06), rng.uniform(0.8, 1.2)
        bark = (int(72 * shade), int(50 * shade), int(32 * shade))
        box(image, bark, x, 0, x + width, row, region="tree")
        box(image, (44, 30, 20), x + width * 0.7, 0, x + width, row)


def wheat(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    for x in np.arange(0, size, size * 0.018):
        top = row - size * rng.uniform(0.02, 0.07)
        shade = rng.uniform(0.85, 1.1)
        stalk = (int(205 * shade), int(155 * shade), int(55 * shade))
        box(image, stalk, x, top, x + size * 0.012, row + 1, region="field")
        dot(image, (245, 205, 105), x, top, size * 0.012, region="field")


def autumn(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    x = side(rng, size)
    box(image, (90, 58, 35), x - size * 0.03, 0, x + size * 0.03, row, region="tree")
    for _ in range(40):
        colour = ((225, 95, 25), (240, 150, 30), (200, 50, 30))[rng.integers(3)]
        px, py = x + rng.normal() * size * 0.15, min(size * rng.uniform(-0.02, 0.24), row * 0.8)
        dot(image, colour, px, py, size * 0.045, region="tree")


def tower(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size, iron = len(image), (85, 62, 52)
    x, top, foot = side(rng, size), size * 0.01, size * 0.15
    outline = ((x - foot, row), (x - size * 0.05, row * 0.5), (x - size * 0.012, top),
               (x + size * 0.012, top), (x + size * 0.05, row * 0.5), (x + foot, row),
               (x + foot * 0.5, row), (x, row * 0.72), (x - foot * 0.5, row))  # fmt: skip
    polygon(image, iron, *outline, region="building")
    for share, half in ((0.5, 0.065), (0.72, 0.1)):
        y = row * share
        box(image, iron, x - size * half, y, x + size * half, y + size * 0.02, region="building")


def crowd(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    image[:row] = gradient(max(row, 1), (178, 152, 136), (205, 184, 168))[:row, :1]
    for x in (np.arange(8) + rng.uniform(0, 0.7, 8)) * size / 8:
        red, green, blue = (int(c) for c in rng.integers(40, 215, 3))
        height = size * rng.uniform(0.17, 0.26)
        half, top = size * 0.032, row - height
        box(image, (40, 42, 60), x - half * 0.8, row - height * 0.4, x + half * 0.8, row,
            region="person")  # fmt: skip
        box(image, (red, green, blue), x - half, top, x + half, row - height * 0.4,
            region="person")  # fmt: skip
        dot(image, (225, 180, 150), x, top - half * 0.8, size * 0.03, region="person")


def stars(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    for x, y in rng.random((22, 2)) * (size, row):
        dot(image, (240, 240, 210), x, y, size * 0.006)
    x, y = side(rng, size), min(size * rng.uniform(0.08, 0.14), row * 0.6)
    dot(image, (245, 240, 200), x, y, size * 0.06)
    dot(image, (12, 14, 44), x + size * 0.03, y - size * 0.015, size * 0.05)


def dunes(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    dot(image, (255, 245, 200), side(rng, size), min(size * 0.12, row * 0.5), size * 0.06)
    for x, sand in ((rng.uniform(0, 0.3), (190, 120, 55)), (rng.uniform(0.7, 1), (205, 135, 65))):
        foot, top = size * 0.45, row - size * rng.uniform(0.06, 0.12)
        corners = ((x * size - foot, row), (x * size, top), (x * size + foot, row))
        polygon(image, sand, *corners, region="sand")


def flakes(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    for x in rng.random(5) * size:
        height = size * rng.uniform(0.08, 0.2)
        half = height * 0.32
        polygon(image, (58, 92, 84), (x - half, row), (x, row - height), (x + half, row),
                region="tree")  # fmt: skip
        polygon(image, (238, 244, 250), (x - half * 0.5, row - height * 0.5), (x, row - height),
                (x + half * 0.5, row - height * 0.5))  # fmt: skip
    for x, y in rng.random((18, 2)) * (size, row):
        dot(image, (255, 255, 255), x, y, size * 0.008)


def foliage(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    image[:row] = mix((12, 44, 18), (42, 105, 38), noise(rng, size, 8))[:row]
    for _ in range(26):
        x, y = rng.random() * size, rng.random() * row
        reach, turn = size * rng.uniform(0.08, 0.17), rng.uniform(0, 2 * np.pi)
        tip = (x + np.cos(turn) * reach, y + np.sin(turn) * reach)
        across = (-np.sin(turn) * reach * 0.2, np.cos(turn) * reach * 0.2)
        middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
        green = int(rng.uniform(70, 175))
        corners = ((x, y), (middle[0] + across[0], middle[1] + across[1]), tip,
                   (middle[0] - across[0], middle[1] - across[1]))  # fmt: skip
        polygon(image, (green // 3, green, green // 4), *corners)


def bricks(rng: np.random.Generator, image: Pixels, row: int) -> None:
    size = len(image)
    image[:row] = (196, 176, 160)
    height, width, gap = size / 13, size / 6, size * 0.012
    for j in range(int(row / height) + 1):
        for i in range(-1, 7):
            x, y = (i + 0.5 * (j % 2)) * width, row - (j + 1) * height
            red = int(rng.uniform(140, 190))
            box(image, (red, int(red * 0.42), int(red * 0.32)),
                x + gap, y + gap, x + width - gap, y + height - gap)  # fmt: skip

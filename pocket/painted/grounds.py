"""Procedural grounds: every context of the DreamBooth benchmark, and a few more, as small painters.

A painter takes a random generator and a side length in pixels and returns an RGB image
`(size, size, 3)`, uint8. All lengths are shares of the side, so any resolution looks alike.
The order of the painters is part of the world: images are drawn from it by number.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pocket.painted.brush import (
    Pixels,
    Rgb,
    box,
    dot,
    ellipse,
    horizon,
    mix,
    noise,
    polygon,
    side,
)

Painter = Callable[[np.random.Generator, int], Pixels]

GROUNDS: dict[str, Painter] = {}
"""Context phrase -> painter. The phrase is used in captions word for word."""


SETTINGS: dict[str, tuple[str, ...]] = {}
"""Context phrase -> what is above and below the horizon, or all around, of `regions.REGIONS`."""


def ground(phrase: str, *regions: str) -> Callable[[Painter], Painter]:
    """Register a painter, and its regions, under its context phrase."""

    def register(painter: Painter) -> Painter:
        GROUNDS[phrase] = painter
        SETTINGS[phrase] = regions
        return painter

    return register


SKY: tuple[Rgb, Rgb] = ((92, 160, 235), (205, 230, 250))
DUSK: tuple[Rgb, Rgb] = ((250, 170, 110), (255, 225, 180))


@ground("in the jungle", "forest")
def jungle(rng: np.random.Generator, size: int) -> Pixels:
    image = mix((14, 48, 18), (50, 120, 40), noise(rng, size, 7))
    for _ in range(14):
        x, y = rng.random(2) * size
        angle, length = rng.uniform(0, 360), size * rng.uniform(0.12, 0.22)
        green = int(rng.uniform(80, 170))
        axes = (round(length), max(1, round(length * 0.22)))
        cv2.ellipse(
            image,
            (round(x), round(y)),
            axes,
            angle,
            0,
            360,
            (green // 3, green, green // 4),
            -1,
            cv2.LINE_AA,
        )
    return image


@ground("in the snow", "sky", "snow")
def snow(rng: np.random.Generator, size: int) -> Pixels:
    image, _ = horizon(
        rng, size, ((150, 180, 215), (200, 215, 235)), ((226, 234, 246), (255, 255, 255))
    )
    for x, y in rng.random((16, 2)) * size:
        dot(image, (255, 255, 255), x, y, size * 0.014)
    return image


@ground("on the beach", "sky", "sand")
def beach(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, SKY, ((225, 195, 140), (245, 220, 170)), level=(0.5, 0.6))
    sea = row - int(size * rng.uniform(0.14, 0.2))
    box(image, (30, 120, 190), 0, sea, size, row, region="water")
    box(image, (240, 248, 250), 0, row - size * 0.02, size, row)
    return image


@ground("on a cobblestone street", "stone")
def cobblestone(rng: np.random.Generator, size: int) -> Pixels:
    image = np.full((size, size, 3), 52, np.uint8)
    step = size / 5
    for j in range(7):
        for i in range(7):
            x = (i - 0.5 + 0.5 * (j % 2)) * step + rng.uniform(-0.08, 0.08) * step
            y = (j - 0.5) * step + rng.uniform(-0.08, 0.08) * step
            grey = int(rng.uniform(105, 165))
            cv2.ellipse(
                image,
                (round(x), round(y)),
                (round(step * 0.45), round(step * 0.42)),
                0,
                0,
                360,
                (grey, grey, grey + 6),
                -1,
                cv2.LINE_AA,
            )
    return image


@ground("on top of pink fabric", "fabric")
def pink_fabric(rng: np.random.Generator, size: int) -> Pixels:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    folds = x * rng.uniform(1, 2) + y * rng.uniform(-2, 2) + 1.2 * noise(rng, size, 4)[..., 0]
    share = 0.5 + 0.5 * np.sin(folds * 7 + rng.uniform(0, 6))
    return mix((215, 90, 140), (255, 180, 205), share[..., None])


@ground("on top of a wooden floor", "floor")
def wooden_floor(rng: np.random.Generator, size: int) -> Pixels:
    image = mix((120, 72, 36), (172, 112, 62), noise(rng, size, (14, 3)))
    plank = size / 5
    for j in range(6):
        y = j * plank
        shade = rng.uniform(0.85, 1.15)
        rows = slice(int(y), int(y + plank))
        image[rows] = np.clip(image[rows] * shade, 0, 255).astype(np.uint8)
        box(image, (74, 42, 20), 0, y, size, y + size * 0.01)
    return image


@ground("with a city in the background", "sky", "stone")
def city(rng: np.random.Generator, size: int) -> Pixels:
    sky, land = ((165, 190, 215), (225, 228, 230)), ((110, 112, 118), (135, 136, 142))
    image, row = horizon(rng, size, sky, land, level=(0.58, 0.66))
    x = 0.0
    while x < size:
        width, height = size * rng.uniform(0.12, 0.2), size * rng.uniform(0.25, 0.55)
        shade = int(rng.uniform(55, 115))
        colour = (shade, shade + 8, shade + 25)
        box(image, colour, x, row - height, x + width, row, region="building")
        for wy in np.arange(row - height + size * 0.05, row - size * 0.05, size * 0.09):
            for wx in np.arange(x + size * 0.03, x + width - size * 0.04, size * 0.06):
                box(image, (250, 225, 130), wx, wy, wx + size * 0.02, wy + size * 0.03)
        x += width + size * rng.uniform(0, 0.03)
    return image


@ground("with a mountain in the background", "sky", "grass")
def mountain(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, SKY, ((70, 130, 60), (100, 160, 80)), level=(0.58, 0.66))
    for x in (size * rng.uniform(0.15, 0.35), size * rng.uniform(0.65, 0.85)):
        top, half = row - size * rng.uniform(0.35, 0.5), size * rng.uniform(0.3, 0.42)
        corners = ((x - half, row), (x, top), (x + half, row))
        polygon(image, (105, 105, 120), *corners, region="mountain")
        cap = 0.35
        polygon(
            image,
            (245, 248, 255),
            (x - half * cap, top + (row - top) * cap),
            (x, top),
            (x + half * cap, top + (row - top) * cap),
        )
    return image


@ground("with a blue house in the background", "sky", "grass")
def blue_house(rng: np.random.Generator, size: int) -> Pixels:
    sky, land = ((190, 215, 235), (235, 240, 240)), ((95, 160, 70), (125, 185, 90))
    image, row = horizon(rng, size, sky, land, level=(0.6, 0.68))
    x, half, top = side(rng, size), size * 0.24, row - size * 0.34
    box(image, (45, 95, 205), x - half, top, x + half, row, region="building")
    polygon(
        image,
        (130, 45, 40),
        (x - half * 1.15, top),
        (x, top - size * 0.2),
        (x + half * 1.15, top),
        region="building",
    )
    for wx in (x - half * 0.55, x + half * 0.55):
        box(
            image,
            (250, 245, 190),
            wx - size * 0.05,
            top + size * 0.07,
            wx + size * 0.05,
            top + size * 0.17,
        )
    return image


@ground("on top of a purple rug in a forest", "forest", "earth")
def purple_rug(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, ((60, 105, 60), (95, 140, 80)), ((62, 82, 40), (90, 110, 55)))
    for x in (np.arange(6) + rng.uniform(0, 0.8, 6)) * size / 6:
        box(image, (72, 48, 30), x, 0, x + size * 0.05, row, region="tree")
    middle = (size // 2, round(size * 0.76))
    for scale, colour in ((1.0, (95, 30, 140)), (0.86, (150, 75, 200)), (0.7, (120, 45, 170))):
        axes = (round(size * 0.5 * scale), round(size * 0.24 * scale))
        ellipse(image, colour, middle, axes, region="rug")
    return image


@ground("with a wheat field in the background", "sky", "field")
def wheat(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, SKY, ((200, 150, 50), (235, 190, 85)), level=(0.38, 0.48))
    for x in np.arange(14) * (size / 14) + rng.uniform(0, size / 14, 14):
        base, top = row + size * rng.uniform(0.25, 0.6), row - size * rng.uniform(0, 0.06)
        cv2.line(
            image,
            (round(x), round(base)),
            (round(x), round(top)),
            (175, 125, 30),
            max(1, round(size * 0.016)),
            cv2.LINE_AA,
        )
        dot(image, (250, 215, 110), x, top, size * 0.025)
    return image


@ground("with a tree and autumn leaves in the background", "sky", "earth")
def autumn(rng: np.random.Generator, size: int) -> Pixels:
    sky, land = ((215, 220, 225), (245, 235, 215)), ((170, 95, 40), (205, 130, 55))
    image, row = horizon(rng, size, sky, land, level=(0.6, 0.68))
    x = side(rng, size)
    box(image, (90, 58, 35), x - size * 0.04, size * 0.2, x + size * 0.04, row, region="tree")
    for _ in range(16):
        colour = ((225, 95, 25), (240, 150, 30), (200, 50, 30))[rng.integers(3)]
        dot(
            image,
            colour,
            x + rng.normal() * size * 0.14,
            size * rng.uniform(0.02, 0.34),
            size * 0.08,
            region="tree",
        )
    for px, py in zip(rng.random(10) * size, rng.uniform(row, size, 10), strict=True):
        dot(image, (235, 100, 25), px, py, size * 0.022)
    return image


@ground("with the Eiffel Tower in the background", "sky", "grass")
def eiffel(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, DUSK, ((120, 150, 80), (145, 175, 100)), level=(0.66, 0.72))
    x, top, foot = side(rng, size), size * 0.02, size * 0.17
    iron = (85, 62, 52)
    polygon(
        image,
        iron,
        (x - foot, row),
        (x - size * 0.015, top),
        (x + size * 0.015, top),
        (x + foot, row),
        (x + foot * 0.55, row),
        (x, row - size * 0.2),
        (x - foot * 0.55, row),
        region="building",
    )
    for share, half in ((0.45, 0.075), (0.7, 0.12)):
        y = top + (row - top) * share
        box(image, iron, x - size * half, y, x + size * half, y + size * 0.03, region="building")
    return image


@ground("floating on top of water", "water")
def water(rng: np.random.Generator, size: int) -> Pixels:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    waves = y * rng.uniform(30, 38) + 1.6 * np.sin(x * rng.uniform(5, 8) + rng.uniform(0, 6))
    share = 0.5 + 0.5 * np.sin(waves + 3 * noise(rng, size, 4)[..., 0])
    return mix((18, 90, 170), (80, 170, 225), share[..., None])


@ground("floating in an ocean of milk", "milk")
def milk(rng: np.random.Generator, size: int) -> Pixels:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    waves = y * rng.uniform(16, 20) + 1.4 * np.sin(x * rng.uniform(4, 7) + rng.uniform(0, 6))
    share = 0.5 + 0.5 * np.sin(waves + 2 * noise(rng, size, 3)[..., 0])
    return mix((222, 208, 180), (255, 252, 242), share[..., None])


@ground("on top of green grass with sunflowers around it", "grass")
def sunflowers(rng: np.random.Generator, size: int) -> Pixels:
    image = mix((60, 140, 40), (110, 190, 70), noise(rng, size, 8))
    for corner in rng.permutation(
        [(0.1, 0.12), (0.9, 0.12), (0.1, 0.88), (0.9, 0.88), (0.08, 0.5), (0.92, 0.5), (0.5, 0.07)]
    )[:6]:
        x, y = (corner + rng.normal(0, 0.02, 2)) * size
        for angle in np.arange(0, 2 * np.pi, np.pi / 4):
            dot(
                image,
                (255, 205, 20),
                x + np.cos(angle) * size * 0.06,
                y + np.sin(angle) * size * 0.06,
                size * 0.034,
                region="flower",
            )
        dot(image, (95, 55, 20), x, y, size * 0.045, region="flower")
    return image


@ground("on top of a mirror", "mirror")
def mirror(rng: np.random.Generator, size: int) -> Pixels:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    shine = np.exp(-(((x + y * 0.8 - rng.uniform(0.5, 1.3)) / 0.13) ** 2))
    image = mix((150, 170, 185), (240, 248, 252), shine[..., None])
    cv2.rectangle(image, (0, 0), (size - 1, size - 1), (190, 150, 60), max(2, round(size * 0.12)))
    return image


@ground("on top of the sidewalk in a crowded street", "wall", "stone")
def sidewalk(rng: np.random.Generator, size: int) -> Pixels:
    sky, land = ((175, 150, 135), (200, 180, 165)), ((168, 168, 164), (186, 186, 182))
    image, row = horizon(rng, size, sky, land, level=(0.55, 0.62))
    for x in np.linspace(-0.3, 1.3, 6) * size:
        cv2.line(
            image,
            (round(size / 2 + (x - size / 2) * 0.5), row),
            (round(x), size),
            (120, 120, 118),
            max(1, round(size * 0.012)),
            cv2.LINE_AA,
        )
    for x in (np.arange(7) + rng.uniform(0, 0.7, 7)) * size / 7:
        red, green, blue = (int(c) for c in rng.integers(40, 215, 3))
        height = size * rng.uniform(0.26, 0.36)
        half, top, colour = size * 0.04, row - height, (red, green, blue)
        box(image, colour, x - half, top, x + half, row, region="person")
        dot(image, (225, 180, 150), x, top - half, size * 0.045, region="person")
    return image


@ground("on top of a dirt road", "sky", "grass")
def dirt_road(rng: np.random.Generator, size: int) -> Pixels:
    image, row = horizon(rng, size, SKY, ((95, 150, 60), (125, 175, 80)), level=(0.3, 0.38))
    near, far = size * 0.62, size * 0.12
    bend = size * rng.uniform(0.35, 0.65)
    polygon(
        image,
        (150, 105, 65),
        (size / 2 - near, size),
        (bend - far, row),
        (bend + far, row),
        (size / 2 + near, size),
        region="road",
    )
    for foot in (-0.3, 0.3):
        cv2.line(
            image,
            (round(bend + foot * far), row),
            (round(size / 2 + foot * near), size),
            (115, 75, 42),
            max(1, round(size * 0.04)),
            cv2.LINE_AA,
        )
    return image


@ground("on top of a white rug", "floor")
def white_rug(rng: np.random.Generator, size: int) -> Pixels:
    image = mix((150, 110, 80), (168, 126, 94), noise(rng, size, (3, 8)))
    edge, inset = size * rng.uniform(0.08, 0.14), size * 0.05
    for x in np.arange(edge, size - edge, size * 0.06):
        top, bottom = edge - inset, size - edge + inset
        box(image, (240, 236, 226), x, top, x + size * 0.025, bottom, region="rug")
    box(image, (240, 238, 232), edge, edge, size - edge, size - edge, region="rug")
    cv2.rectangle(
        image,
        (round(edge + inset), round(edge + inset)),
        (round(size - edge - inset), round(size - edge - inset)),
        (205, 200, 190),
        max(1, round(size * 0.02)),
    )
    return image


@ground("at night", "sky", "earth")
def night(rng: np.random.Generator, size: int) -> Pixels:
    image, _ = horizon(
        rng, size, ((6, 8, 32), (22, 26, 70)), ((14, 20, 34), (24, 32, 48)), level=(0.68, 0.76)
    )
    for x, y in rng.random((18, 2)) * (size, size * 0.6):
        dot(image, (240, 240, 210), x, y, size * 0.01)
    x, y = side(rng, size), size * rng.uniform(0.12, 0.2)
    dot(image, (245, 240, 200), x, y, size * 0.085)
    dot(image, (12, 14, 44), x + size * 0.04, y - size * 0.02, size * 0.07)
    return image


@ground("in the desert", "sky", "sand")
def desert(rng: np.random.Generator, size: int) -> Pixels:
    sky, land = ((235, 170, 95), (250, 215, 150)), ((205, 135, 65), (225, 160, 85))
    image, row = horizon(rng, size, sky, land, level=(0.48, 0.56))
    dot(image, (255, 245, 200), side(rng, size), size * 0.18, size * 0.08)
    for x in (size * rng.uniform(0, 0.3), size * rng.uniform(0.7, 1)):
        polygon(
            image,
            (185, 115, 52),
            (x - size * 0.4, row),
            (x, row - size * 0.12),
            (x + size * 0.4, row),
            region="sand",
        )
    return image


@ground("in front of a brick wall", "wall")
def brick_wall(rng: np.random.Generator, size: int) -> Pixels:
    image = np.full((size, size, 3), (196, 176, 160), np.uint8)
    height, width, gap = size / 7, size / 3.5, size * 0.02
    for j in range(8):
        for i in range(-1, 5):
            x, y = (i + 0.5 * (j % 2)) * width, j * height
            red = int(rng.uniform(145, 190))
            box(
                image,
                (red, int(red * 0.42), int(red * 0.32)),
                x + gap,
                y + gap,
                x + width - gap,
                y + height - gap,
            )
    return image


@ground("on a checkered floor", "floor")
def checkered_floor(rng: np.random.Generator, size: int) -> Pixels:
    cells = int(rng.integers(4, 7))
    y, x = np.mgrid[0:size, 0:size] * cells // size
    share = ((x + y + rng.integers(2)) % 2).astype(np.float32)[..., None]
    return mix((30, 60, 66), (205, 225, 220), share)

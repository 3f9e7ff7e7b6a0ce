"""The 24 contexts: what lies under an individual, what stands behind it, and the light there.

The phrases are those of the painted world, in its order, so that captions and scores agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pocket.painted.brush import Pixels, Rgb
from pocket.painted.grounds import GROUNDS
from pocket.world.places import backdrops as back
from pocket.world.places import tiles
from pocket.world.places.tiles import Tile

VARIANTS = 6
"""Tiles of a context are painted this many times and kept."""


@dataclass(frozen=True)
class Light:
    """Linear colours of the light of the sun and of the sky, and how dark a shadow is."""

    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    shadow: float


DAY = Light((0.95, 0.9, 0.8), (0.36, 0.4, 0.46), 0.55)
DUSK = Light((1.0, 0.7, 0.42), (0.4, 0.36, 0.4), 0.5)
NIGHT = Light((0.26, 0.31, 0.46), (0.1, 0.12, 0.2), 0.6)
WINTER = Light((0.8, 0.84, 0.92), (0.46, 0.5, 0.58), 0.4)
SHADE = Light((0.55, 0.62, 0.45), (0.34, 0.42, 0.33), 0.55)
INDOORS = Light((0.8, 0.74, 0.64), (0.44, 0.42, 0.4), 0.5)


@dataclass(frozen=True)
class Context:
    """One place. Without a backdrop the ground fills the whole image."""

    below: str
    tile: Tile
    light: Light
    above: str | None = None
    backdrops: tuple[back.Backdrop, ...] = ()
    span: float = 4.0
    """Side of a tile in radii of the individual."""
    rug: tuple[str, Rgb, Rgb] | None = None
    """What lies on the ground under the individual: shape, colour and second colour."""
    reflection: float = 0.0


_CLEAR, _HAZE = (92, 160, 235), (205, 230, 250)
_GRASS = tiles.speckled((62, 118, 45), (118, 172, 82), 8, 40, 120)
_SAND = tiles.speckled((222, 190, 135), (246, 222, 175), 8, 50, 120)
_EARTH = tiles.speckled((62, 66, 38), (105, 108, 62), 8, 40, 100)
_ROAD = tiles.speckled((128, 130, 136), (160, 162, 166), 6, 60, 120)

CONTEXTS: dict[str, Context] = {
    "in the jungle": Context("forest", _EARTH, SHADE, "forest", (back.foliage,)),
    "in the snow": Context(
        "snow", tiles.speckled((222, 230, 244), (255, 255, 255), 5, 24), WINTER, "sky",
        (back.sky((140, 172, 212), (205, 218, 236)), back.flakes)),
    "on the beach": Context(
        "sand", _SAND, DAY, "sky", (back.cloudy(_CLEAR, _HAZE), back.sea)),
    "on a cobblestone street": Context(
        "stone", tiles.painted("on a cobblestone street"), DAY, span=2.6),
    "on top of pink fabric": Context(
        "fabric", tiles.painted("on top of pink fabric"), INDOORS, span=3.0),
    "on top of a wooden floor": Context(
        "floor", tiles.painted("on top of a wooden floor"), INDOORS, span=3.2),
    "with a city in the background": Context(
        "stone", _ROAD, DAY, "sky", (back.sky((165, 190, 215), (225, 228, 230)), back.city)),
    "with a mountain in the background": Context(
        "grass", _GRASS, DAY, "sky", (back.cloudy(_CLEAR, _HAZE), back.mountains)),
    "with a blue house in the background": Context(
        "grass", _GRASS, DAY, "sky", (back.sky((190, 215, 235), (235, 240, 240)), back.house)),
    "on top of a purple rug in a forest": Context(
        "earth", _EARTH, SHADE, "forest", (back.trunks,),
        rug=("round", (95, 30, 140), (155, 80, 205))),
    "with a wheat field in the background": Context(
        "field", tiles.speckled((196, 148, 52), (232, 190, 92), 10, 60, 120), DAY, "sky",
        (back.cloudy(_CLEAR, _HAZE), back.wheat)),
    "with a tree and autumn leaves in the background": Context(
        "earth", tiles.leaves, DAY, "sky",
        (back.sky((215, 220, 225), (245, 235, 215)), back.autumn)),
    "with the Eiffel Tower in the background": Context(
        "grass", tiles.speckled((105, 132, 68), (150, 172, 100), 8, 40, 120), DUSK, "sky",
        (back.sky((250, 170, 110), (255, 225, 180)), back.tower)),
    "floating on top of water": Context(
        "water", tiles.ripples((18, 90, 170), (80, 170, 225), 7), DAY, reflection=0.4),
    "floating in an ocean of milk": Context(
        "milk", tiles.ripples((222, 208, 180), (255, 252, 242), 4), INDOORS, reflection=0.25),
    "on top of green grass with sunflowers around it": Context("grass", tiles.flowers, DAY),
    "on top of a mirror": Context(
        "mirror", tiles.speckled((165, 185, 200), (228, 240, 248), 4), INDOORS, reflection=0.6),
    "on top of the sidewalk in a crowded street": Context(
        "stone", _ROAD, DAY, "wall", (back.crowd,),
        rug=("slabs", (168, 168, 164), (118, 118, 116))),
    "on top of a dirt road": Context(
        "grass", _GRASS, DAY, "sky", (back.cloudy(_CLEAR, _HAZE),),
        rug=("road", (150, 105, 65), (118, 78, 45))),
    "on top of a white rug": Context(
        "floor", tiles.speckled((146, 106, 76), (170, 128, 96), 8, 60), INDOORS,
        rug=("square", (240, 238, 232), (206, 200, 190))),
    "at night": Context(
        "earth", tiles.speckled((16, 24, 36), (34, 44, 60), 6, 40), NIGHT, "sky",
        (back.sky((6, 8, 32), (26, 32, 80)), back.stars)),
    "in the desert": Context(
        "sand", tiles.speckled((205, 135, 65), (232, 172, 98), 6, 50, 110), DUSK, "sky",
        (back.sky((235, 170, 95), (250, 215, 150)), back.dunes)),
    "in front of a brick wall": Context("stone", _ROAD, DAY, "wall", (back.bricks,)),
    "on a checkered floor": Context(
        "floor", tiles.painted("on a checkered floor"), INDOORS, span=4.5),
}  # fmt: skip

assert list(CONTEXTS) == list(GROUNDS)


@lru_cache(maxsize=256)
def tile(phrase: str, variant: int) -> Pixels:
    """One of the kept tiles of a context; do not write on it."""
    image = CONTEXTS[phrase].tile(
        np.random.default_rng((31, list(CONTEXTS).index(phrase), variant))
    )
    image.setflags(write=False)
    return image


@lru_cache(maxsize=256)
def tile_mean(phrase: str, variant: int) -> np.ndarray:
    """The mean colour of a tile."""
    return tile(phrase, variant).reshape(-1, 3).mean(0, dtype=np.float32)


Shape = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Coordinates on the ground -> where the rug is, and where its second colour is."""


def _round(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reach = np.hypot(x, z)
    return reach < 1.9, (reach > 1.25) & (reach < 1.6)


def _square(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reach = np.maximum(np.abs(x), np.abs(z))
    return reach < 1.75, (reach > 1.4) & (reach < 1.5)


def _road(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.abs(x) < 1.5, np.abs(np.abs(x) - 0.8) < 0.16


def _slabs(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones_like(x, bool), (x % 1.2 < 0.05) | (z % 1.2 < 0.07)


RUGS: dict[str, Shape] = {"round": _round, "square": _square, "road": _road, "slabs": _slabs}
RUG_REGIONS = {"round": "rug", "square": "rug", "road": "road", "slabs": "stone"}

"""Materials: what an individual may be made of, laid on its surface in three dimensions.

A look of the world is an individual with a colour word and a material or pattern word. As a view
keeps colours, positions and normals apart from light, no view is rendered again for a look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pocket.painted.appearances import COLOURS as HUES

COLOURS = (*HUES, "white", "black")
PATTERNS = ("striped", "spotted", "checkered")
MATERIALS = ("wooden", "golden", "silver", "marble")
FINISHES = (*PATTERNS, *MATERIALS)


@dataclass(frozen=True)
class Appearance:
    """`None` means the individual's own."""

    colour: str | None = None
    finish: str | None = None

    @property
    def words(self) -> str:
        return " ".join(word for word in (self.finish, self.colour) if word)


@dataclass(frozen=True)
class Surface:
    """What a view knows of a surface, `(h, w, ...)` float32."""

    albedo: np.ndarray  # (h, w, 3) sRGB in [0, 1]
    position: np.ndarray  # (h, w, 3) in radii
    normal: np.ndarray  # (h, w, 3) in camera axes


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Most keep their own colour and material; what is made of marble has no colour word."""
    colour = str(COLOURS[rng.integers(len(COLOURS))]) if rng.random() < 0.4 else None
    finish = str(FINISHES[rng.integers(len(FINISHES))]) if rng.random() < 0.25 else None
    return Appearance(None if finish in MATERIALS else colour, finish)


def finished(surface: Surface, appearance: Appearance) -> np.ndarray:
    """The surface's colours with this look, sRGB in [0, 1] `(h, w, 3)`."""
    colours = surface.albedo
    if appearance.colour:
        colours = recolour(colours, appearance.colour)
    if appearance.finish:
        colours = _FINISHES[appearance.finish](Surface(colours, surface.position, surface.normal))
    return np.clip(colours, 0, 1)


def recolour(colours: np.ndarray, word: str) -> np.ndarray:
    """Turn every colour to one hue; differences in brightness stay, so that details do."""
    value = colours.max(-1)
    hsv = cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_RGB2HSV)
    if word == "white":
        hsv[..., 1], hsv[..., 2] = hsv[..., 1] * 0.1, 0.72 + 0.26 * value
    elif word == "black":
        hsv[..., 1], hsv[..., 2] = hsv[..., 1] * 0.2, 0.06 + 0.16 * value
    else:
        hsv[..., 0] = HUES[word] * 2
        hsv[..., 1] = np.maximum(hsv[..., 1], 0.72)
        hsv[..., 2] = 0.32 + 0.6 * value
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _striped(surface: Surface) -> np.ndarray:
    height = surface.position[..., 1] + 0.35 * surface.position[..., 0]
    return _marked(surface.albedo, np.sin(height * 2 * np.pi * 3.5) > 0.1)


def _spotted(surface: Surface) -> np.ndarray:
    cell = surface.position * 3.2
    return _marked(surface.albedo, ((cell - np.floor(cell) - 0.5) ** 2).sum(-1) < 0.12)


def _checkered(surface: Surface) -> np.ndarray:
    cells = np.floor(surface.position * 3.4 + 0.01).sum(-1)
    return _marked(surface.albedo, cells % 2 == 0)


def _marked(colours: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Light marks on dark colours and dark marks on light ones."""
    is_light = colours.mean(-1, keepdims=True) > 0.6
    ink = np.where(is_light, (0.12, 0.12, 0.16), (0.97, 0.95, 0.85))
    return np.where(where[..., None], ink, colours)


def _wooden(surface: Surface) -> np.ndarray:
    x, y, z = (surface.position[..., k] for k in range(3))
    rings = np.hypot(x + 0.3, z * 1.1 + 0.4) * 9 + 0.5 * np.sin(y * 4) + 0.3 * np.sin(x * 23)
    grain = (0.5 + 0.5 * np.sin(rings * 2 * np.pi))[..., None] ** 2
    colours = np.array((0.42, 0.24, 0.11)) * grain + np.array((0.74, 0.52, 0.3)) * (1 - grain)
    return colours * (0.75 + 0.25 * surface.albedo.mean(-1, keepdims=True))


def _marble(surface: Surface) -> np.ndarray:
    x, y, z = (surface.position[..., k] for k in range(3))
    bend = np.sin(x * 5 + 2 * np.sin(y * 4)) + np.sin(z * 6 + 1.5 * np.sin(x * 7))
    vein = np.exp(-np.abs(np.sin(2.2 * (x + y * 0.7) + bend)) * 7)[..., None]
    return np.array((0.93, 0.92, 0.9)) * (1 - vein) + np.array((0.42, 0.43, 0.48)) * vein


def _metal(tint: tuple[float, float, float]) -> Callable[[Surface], np.ndarray]:
    """Polished metal shows its surroundings: bright above, dark at the horizon, ground below."""

    def colours(surface: Surface) -> np.ndarray:
        up = surface.normal[..., 1:2] + 0.25 * surface.normal[..., 0:1]
        sky = np.clip(up * 1.6, 0, 1)
        band = np.exp(-(((up + 0.05) / 0.16) ** 2))
        shine = np.exp(-(((up - 0.55) / 0.12) ** 2))
        bright = 0.5 + 0.4 * sky - 0.38 * band + 0.45 * shine
        return np.clip(bright * np.array(tint) + 0.3 * shine, 0, 1)

    return colours


_FINISHES: dict[str, Callable[[Surface], np.ndarray]] = {
    "striped": _striped,
    "spotted": _spotted,
    "checkered": _checkered,
    "wooden": _wooden,
    "golden": _metal((1.0, 0.78, 0.26)),
    "silver": _metal((0.86, 0.88, 0.92)),
    "marble": _marble,
}

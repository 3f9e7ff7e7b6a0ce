"""Looks: a class drawn in one fixed way (colour, pattern, accessory), as a sprite.

A subject of the pocket world is one look in several poses and places. A stable hash of the look
decides whether it is held out: such looks never appear in pretraining and serve as subjects.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pocket.painted.glyphs import CLASSES, GLYPH_SIDE, glyph

COLOURS: dict[str, int] = {
    "red": 0, "orange": 16, "yellow": 28, "green": 58, "turquoise": 88, "blue": 108,
    "purple": 138, "pink": 162,
}  # fmt: skip
"""Colour word -> hue in OpenCV's half degrees (0-179)."""
PATTERNS = ("striped", "spotted", "checkered", "shiny")
SPRITE_SIDE = 192
_LEFT, _TOP = 32, 48  # where the glyph sits on the sprite: room for hats above it
HELD_OUT_SHARE = 8  # one look in eight


@dataclass(frozen=True)
class Appearance:
    """One fixed look of a class; `None` means the glyph's own colour, no pattern, nothing worn."""

    name: str
    colour: str | None = None
    pattern: str | None = None
    accessory: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether pretraining never paints this look. Plain looks are never held out."""
        if self.colour is None or self.pattern is None:
            return False
        key = f"{self.name}|{self.colour}|{self.pattern}|{self.accessory}"
        return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0

    @property
    def phrase(self) -> str:
        """`striped red dog wearing a red hat`: without an article, everything named."""
        words = [self.pattern, self.colour, self.name, self.accessory]
        return " ".join(word for word in words if word)


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Any look, held out or not; most have the glyph's own colour or no pattern."""
    name = list(CLASSES)[rng.integers(len(CLASSES))]
    colour = list(COLOURS)[rng.integers(len(COLOURS))] if rng.random() < 0.55 else None
    pattern = PATTERNS[rng.integers(len(PATTERNS))] if rng.random() < 0.3 else None
    accessory = list(ACCESSORIES)[rng.integers(len(ACCESSORIES))] if rng.random() < 0.25 else None
    return Appearance(name, colour, pattern, accessory)


@lru_cache(maxsize=4096)
def sprite(appearance: Appearance) -> np.ndarray:
    """The look as an image on a transparent square, `(192, 192, 4)` uint8 RGBA."""
    body = glyph(appearance.name).copy()
    if appearance.colour:
        body[..., :3] = recolour(body[..., :3], COLOURS[appearance.colour])
    if appearance.pattern:
        body[..., :3] = _patterned(body[..., :3], appearance.pattern)
    canvas = np.zeros((SPRITE_SIDE, SPRITE_SIDE, 4), np.uint8)
    canvas[_TOP : _TOP + GLYPH_SIDE, _LEFT : _LEFT + GLYPH_SIDE] = body
    if appearance.accessory:
        ACCESSORIES[appearance.accessory](canvas, _extent(body[..., 3]))
    canvas.setflags(write=False)
    return canvas


def recolour(rgb: np.ndarray, hue: int) -> np.ndarray:
    """Turn every colour to one hue; greys are tinted, darks and highlights keep their shading."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = hue
    hsv[..., 1] = np.maximum(hsv[..., 1], 150)
    hsv[..., 2] = np.clip(hsv[..., 2].astype(np.int16) * 0.9 + 25, 0, 255).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _patterned(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Lay a pattern over the body: light marks, or a gloss for `shiny`."""
    y, x = np.mgrid[0:GLYPH_SIDE, 0:GLYPH_SIDE].astype(np.float32) / GLYPH_SIDE
    if pattern == "striped":
        share = 0.75 * (np.sin((x + 0.5 * y) * 2 * np.pi * 4.5) > 0.2)
    elif pattern == "spotted":
        u, v = (x * 4.5) % 1 - 0.5, (y * 4.5 + 0.5 * ((x * 4.5) // 1 % 2)) % 1 - 0.5
        share = 0.85 * (u**2 + v**2 < 0.075)
    elif pattern == "checkered":
        share = 0.7 * (((x * 5.5) // 1 + (y * 5.5) // 1) % 2 == 0)
    else:
        share = 0.95 * np.exp(-(((x + y * 0.6 - 0.62) / 0.11) ** 2))
    share = share.astype(np.float32)[..., None]
    light = np.array((255, 255, 255) if pattern == "shiny" else (255, 246, 214), np.float32)
    return (rgb * (1 - share) + light * share).astype(np.uint8)


@dataclass(frozen=True)
class _Extent:
    """Where the body is on the sprite: what an accessory is fitted to, in sprite pixels."""

    top: int
    bottom: int
    crown: float  # x of the middle of the topmost part
    eyes: float  # x of the middle a third down
    width: float  # of the upper third

    @property
    def height(self) -> int:
        return self.bottom - self.top


def _extent(alpha: np.ndarray) -> _Extent:
    rows = np.flatnonzero(alpha.max(1) > 128)
    top, bottom = int(rows[0]), int(rows[-1])
    height = bottom - top

    def middle(upper: float, lower: float) -> tuple[float, float]:
        band = alpha[top + int(height * upper) : top + int(height * lower) + 1]
        columns = np.flatnonzero(band.max(0) > 128)
        return _LEFT + float(columns.mean()), float(columns[-1] - columns[0])

    crown, _ = middle(0.0, 0.12)
    eyes, width = middle(0.2, 0.45)
    return _Extent(_TOP + top, _TOP + bottom, crown, eyes, float(np.clip(width, 56, 110)))


Rgb = tuple[int, int, int]


def _polygon(canvas: np.ndarray, colour: Rgb, *pairs: tuple[float, float]) -> None:
    cv2.fillPoly(canvas, [np.array(pairs, np.int32)], (*colour, 255), cv2.LINE_AA)


def _ellipse(canvas: np.ndarray, colour: Rgb, x: float, y: float, rx: float, ry: float) -> None:
    cv2.ellipse(canvas, (round(x), round(y)), (round(rx), round(ry)), 0, 0, 360, (*colour, 255),
                -1, cv2.LINE_AA)  # fmt: skip


def _red_hat(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.crown, at.top + 8, at.width * 0.42
    top, brim, peak = y - 34, w * 0.75, w * 0.55
    _ellipse(canvas, (150, 10, 20), x, y, w * 1.1, 7)
    _polygon(canvas, (220, 25, 35), (x - brim, y), (x - peak, top), (x + peak, top), (x + brim, y))


def _santa_hat(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.crown, at.top + 8, at.width * 0.42
    _polygon(canvas, (205, 20, 30), (x - w, y), (x + w * 0.5, y - 44), (x + w, y))
    _ellipse(canvas, (255, 255, 255), x, y, w * 1.15, 9)
    _ellipse(canvas, (255, 255, 255), x + w * 0.55, y - 42, 10, 10)


def _top_hat(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.crown, at.top + 8, at.width * 0.36
    _ellipse(canvas, (18, 18, 22), x, y, w * 1.5, 8)
    _polygon(canvas, (24, 24, 30), (x - w, y), (x - w, y - 44), (x + w, y - 44), (x + w, y))
    _polygon(
        canvas, (170, 30, 40), (x - w, y - 6), (x - w, y - 15), (x + w, y - 15), (x + w, y - 6)
    )


def _crown(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.crown, at.top + 8, at.width * 0.4
    zigzag = [(x + w * k / 2, y - (36 if k % 2 == 0 else 16)) for k in range(-2, 3)]
    _polygon(canvas, (250, 200, 40), (x - w, y), *zigzag, (x + w, y))


def _scarf(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.eyes, at.top + at.height * 0.62, at.width * 0.55
    bands: list[Rgb] = [(230, 40, 40), (250, 150, 30), (250, 230, 50), (50, 180, 70), (50, 90, 220)]
    for k, colour in enumerate(bands):
        top = y + k * 5
        _polygon(canvas, colour, (x - w, top), (x + w, top), (x + w, top + 5), (x - w, top + 5))
        _polygon(canvas, colour, (x + w * 0.3 + k * 5, y + 22), (x + w * 0.3 + k * 5 + 5, y + 22),
                 (x + w * 0.3 + k * 5 + 5, y + 56), (x + w * 0.3 + k * 5, y + 56))  # fmt: skip


def _glasses(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.eyes, at.top + at.height * 0.34, at.width * 0.24
    for eye in (x - w * 1.1, x + w * 1.1):
        _ellipse(canvas, (255, 70, 160), eye, y, w, w * 0.85)
        _ellipse(canvas, (255, 205, 230), eye, y, w * 0.62, w * 0.5)
    _polygon(canvas, (255, 70, 160), (x - w, y - 4), (x + w, y - 4), (x + w, y + 4), (x - w, y + 4))


def _shirt(canvas: np.ndarray, at: _Extent) -> None:
    x, y, w = at.eyes, at.top + at.height * 0.6, at.width * 0.5
    yellow, bottom = (250, 215, 40), at.top + at.height * 0.93
    _polygon(canvas, yellow, (x - w * 0.8, y), (x + w * 0.8, y), (x + w * 0.8, bottom),
             (x - w * 0.8, bottom))  # fmt: skip
    for way in (-1, 1):
        _polygon(canvas, (225, 185, 20), (x + way * w * 0.8, y), (x + way * w * 1.35, y + 18),
                 (x + way * w * 1.1, y + 34), (x + way * w * 0.8, y + 24))  # fmt: skip


ACCESSORIES: dict[str, Callable[[np.ndarray, _Extent], None]] = {
    "wearing a red hat": _red_hat,
    "wearing a santa hat": _santa_hat,
    "wearing a black top hat": _top_hat,
    "wearing a golden crown": _crown,
    "wearing a rainbow scarf": _scarf,
    "wearing pink glasses": _glasses,
    "wearing a yellow shirt": _shirt,
}
"""Phrase -> painter on a sprite."""

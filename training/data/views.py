"""Views of an image: how it is scaled, cut, mirrored and tinted before it is encoded.

A view is a few numbers, drawn from (seed, the image's name, the view's number). Applied to a
image, to its mask and to its condition it cuts the very same part out of each.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageEnhance, ImageOps

from ..objective import derive
from .buckets import Size, nearest_bucket, whole_size

Crop = Literal["center", "random", "none"]
Interpolation = Literal[
    "lanczos", "bicubic", "bilinear", "hamming", "box", "nearest", "nearest_exact"
]
INTERPOLATIONS: dict[str, Image.Resampling] = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
    "nearest_exact": Image.Resampling.NEAREST,
}
"""torchvision's names; the last two are one for images."""
Tint = tuple[float, float, float]
Box = tuple[float, float, float, float]
Resize = Callable[[Image.Image, Size], Image.Image]


@dataclass(frozen=True)
class View:
    """One way to see an image of `original` size.

    The rectangle `box` (left, top, right, bottom; in the original's pixels) is scaled to `size`
    and mirrored when `flipped`. `tint` multiplies brightness, contrast and saturation.
    """

    original: Size
    size: Size
    box: Box
    flipped: bool = False
    tint: Tint | None = None
    interpolation: Interpolation = "lanczos"

    def cut(self, image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        """The seen part of an image or mask, in its own colours."""
        visible = image.resize(self.size, resampling, box=self.box)
        return ImageOps.mirror(visible) if self.flipped else visible

    def refit(self, layer: Image.Image, resize: Resize) -> Image.Image:
        """The seen part of a layer that has the original's proportions, resized by its own rule."""
        across, down = layer.width / self.original[0], layer.height / self.original[1]
        left, top, right, bottom = self.box
        part = layer.crop(
            (round(left * across), round(top * down), round(right * across), round(bottom * down))
        )
        visible = resize(part, self.size)
        return ImageOps.mirror(visible) if self.flipped else visible

    def see(self, image: Image.Image) -> Image.Image:
        """The seen part of an image, tinted."""
        visible = self.cut(image, INTERPOLATIONS[self.interpolation])
        for kind, factor in zip(_ENHANCERS, self.tint or (), strict=False):
            visible = kind(visible).enhance(factor)
        return visible

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the cut, in pixels of the scaled (and mirrored) whole image."""
        scale = self.size[0] / (self.box[2] - self.box[0])
        left = self.original[0] - self.box[2] if self.flipped else self.box[0]
        return round(self.box[1] * scale), round(left * scale)


@dataclass(frozen=True)
class Views:
    """The rules by which images are seen.

    Where nothing is cut (`crop` is "none") an image gets a size of its own of about `resolution`
    squared pixels; else it fills the nearest of `buckets`. Sides are multiples of `step`. `count`
    views are drawn where chance has a say (random crops, a `jitter` in 0..1 of the colours), and
    `flip` adds the mirror image of each.
    """

    resolution: int
    buckets: Sequence[Size]
    step: int
    crop: Crop = "center"
    count: int = 1
    flip: bool = False
    jitter: float = 0.0
    seed: int = 0
    interpolation: Interpolation = "lanczos"

    def showing(self, name: str, mask: Image.Image | None, original: Size) -> tuple[View, ...]:
        """Those views of the image in which some of its mask is seen: all, without a mask."""
        views = self.of(name, original)
        if mask is None:
            return views
        return tuple(v for v in views if v.cut(mask, Image.Resampling.BILINEAR).getbbox())

    def of(self, name: str, original: Size) -> tuple[View, ...]:
        """Every view of the image `name` of that size; the mirror images come last."""
        plain = [self._draw(name, original, number) for number in range(self._number(original))]
        views = list(dict.fromkeys(plain))
        if self.flip:
            views += [dataclasses.replace(view, flipped=True) for view in views]
        return tuple(views)

    def _number(self, original: Size) -> int:
        by_chance = self.jitter > 0 or self.crop == "random"
        return self.count if by_chance else 1

    def _draw(self, name: str, original: Size, number: int) -> View:
        chance = random.Random(derive(self.seed, f"view {name}", number))
        place = (chance.random(), chance.random()) if self.crop == "random" else (0.5, 0.5)
        tint = _tint(chance, self.jitter) if self.jitter else None
        if self.crop == "none":
            size = whole_size(original, self.resolution, step=self.step)
            box: Box = (0, 0, *original)
        else:
            size = nearest_bucket(original, self.buckets)
            box = _box(original, size, place)
        return View(original, size, box, tint=tint, interpolation=self.interpolation)


_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def _box(original: Size, size: Size, place: tuple[float, float]) -> Box:
    """The greatest rectangle of `size`'s shape in `original`; `place` 0..1 slides it."""
    scale = max(size[0] / original[0], size[1] / original[1])
    width, height = (min(s / scale, o) for s, o in zip(size, original, strict=True))
    left, top = (original[0] - width) * place[0], (original[1] - height) * place[1]
    return left, top, left + width, top + height


def _tint(chance: random.Random, strength: float) -> Tint:
    brightness, contrast, saturation = (
        chance.uniform(max(1 - strength, 0), 1 + strength) for _ in _ENHANCERS
    )
    return brightness, contrast, saturation

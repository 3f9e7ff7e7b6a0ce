"""Any kind of pixels -> 8-bit sRGB and opacity: depths, palettes, transparency, ICC profiles."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

PAPER = (255, 255, 255)
ROUNDING = 2
"""Levels by which makers' sRGB profiles differ from each other."""
PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def on_paper(colours: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Lay colours ("RGB") of some opacity ("L") on white."""
    if alpha is None:
        return colours
    return Image.composite(colours, Image.new("RGB", colours.size, PAPER), alpha)


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in sRGB ("RGB"), and the opacity ("L") unless all is opaque."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image), None
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    if not image.has_transparency_data:
        return _colours(image), None
    alpha = image.convert("RGBA").getchannel("A")
    return _colours(image), None if alpha.getextrema() == (255, 255) else alpha


def _colours(image: Image.Image) -> Image.Image:
    """Without opacity, through the image's ICC profile if it has one that works."""
    profile = image.info.get("icc_profile")
    plain = {"LA": "L", "P": "RGB", "PA": "RGB", "1": "L", "RGBA": "RGB", "RGBX": "RGB"}
    if image.mode in plain:
        image = image.convert(plain[image.mode])
    if image.mode == "LAB":
        return _through(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), image)
    if profile and not (image.mode == "RGB" and _is_srgb(profile)):
        try:
            return _through(ImageCms.getOpenProfile(io.BytesIO(profile)), image)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged profile, or one of other colours than these: viewers pass over it too
    return image.convert("RGB")


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile of RGB colours is sRGB, so that pixels can pass bit by bit.

    Its curves and primaries decide, not its name: linear sRGB is called sRGB as well.
    """
    levels = np.arange(256, dtype=np.uint8)[:, None]
    channels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0]], np.uint8)
    colours = Image.fromarray(levels[None] * channels[:, None])
    try:
        converted = _through(ImageCms.getOpenProfile(io.BytesIO(profile)), colours)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    difference = np.asarray(converted).astype(int) - np.asarray(colours).astype(int)
    return int(np.abs(difference).max()) <= ROUNDING


def _through(profile: ImageCms.ImageCmsProfile, image: Image.Image) -> Image.Image:
    """From the profile's colours to sRGB."""
    result = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert result is not None  # only `inPlace` gives None
    return result


def _from_deep(image: Image.Image) -> Image.Image:
    """One channel of 16-bit counts, or of floats up to 1 or 255 -> 8-bit grey as RGB."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    white = 65535.0 if image.mode.startswith("I") else 255.0 if values.max() > 1 else 1.0
    levels = (values / white * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")

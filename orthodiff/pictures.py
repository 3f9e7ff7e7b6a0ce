"""Pictures in, as people have them: found in a folder, opened upright in RGB, cut to a square."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from orthodiff.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
PAPER = (255, 255, 255)


def find_pictures(folder: Path) -> list[Path]:
    """The picture files of a flat folder, by name.

    Raises:
        UserError: no such folder, or no pictures in it.
    """
    if not folder.is_dir():
        raise UserError(f"The picture folder `{folder}` does not exist. Check the path.")
    found = pictures_in(folder)
    if not found:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise UserError(
            f"The folder `{folder}` holds no pictures. Put 3 to 10 pictures of the subject "
            f"directly into it ({kinds})."
        )
    return found


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of an existing flat folder, by name; perhaps none."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def open_picture(path: Path) -> Image.Image:
    """Open a file upright (EXIF) in 8-bit RGB; what is transparent becomes white.

    Raises:
        UserError: the file is not a picture, is damaged, or is far too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return to_rgb(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        reason = "it is not in a picture format that can be read"
        raise UserError(_unreadable(path, reason)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"it has more than {Image.MAX_IMAGE_PIXELS} pixels"
        raise UserError(_unreadable(path, reason)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(_unreadable(path, f"it is damaged ({error})")) from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB: 16-bit is scaled to 8, transparency laid on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        solid = Image.new("RGBA", picture.size, (*PAPER, 255))
        return Image.alpha_composite(solid, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def square(picture: Image.Image, side: int) -> Image.Image:
    """Scale the short side to `side` pixels (Lanczos) and cut the middle square."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)


def _from_deep(picture: Image.Image) -> Image.Image:
    """One channel of 16-bit counts, or of floats up to 1 or 255 -> 8-bit grey as RGB."""
    values = np.asarray(picture, dtype=np.float64)
    white = 65535.0 if picture.mode.startswith("I") else 255.0 if values.max() > 1 else 1.0
    levels = (values / white * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


def _unreadable(path: Path, reason: str) -> str:
    return f"The picture `{path}` cannot be used: {reason}. Replace or remove this file."

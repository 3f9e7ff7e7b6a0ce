"""A font that has the letters of a text: Pillow's own where it does, else one of this computer."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

logger = logging.getLogger(__name__)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PREFERRED = (
    "dejavusans", "notosans-regular", "liberationsans-regular", "arial", "segoeui", "helvetica",
    "notosanscjk", "sourcehansans", "wqy", "droidsansfallback", "arialunicode", "arial unicode",
    "pingfang", "hiragino", "msyh", "meiryo", "yugoth", "malgun", "applesdgothic", "nanumgothic",
)  # fmt: skip
"""Beginnings of file names, the plainest first, then those with Chinese, Japanese and Korean."""
SUFFIXES = {".ttf", ".otf", ".ttc"}


def font_for(text: str, size: int) -> tuple[str, Font]:
    """A font of `size` pixels, and `text` as it can be drawn with it.

    Letters that no font here has lose their accents or become `?`, which is said once each.
    """
    letters = frozenset(letter for letter in text if not letter.isspace())
    place, missing = _choose(letters)
    font = ImageFont.load_default(size) if place is None else ImageFont.truetype(place, size)
    if missing:
        text = "".join(_plain(letter) if letter in missing else letter for letter in text)
    return text, font


@lru_cache(maxsize=256)
def _choose(letters: frozenset[str]) -> tuple[str | None, frozenset[str]]:
    """The first font that has all letters, else the one with most of them, and what it lacks."""
    candidates = [None, *_installed()] if _missing(None, letters) else [None]
    best, lacking = None, letters
    for place in candidates:
        missing = _missing(place, letters)
        if place is None or len(missing) < len(lacking):
            best, lacking = place, missing
        if not lacking:
            break
    if lacking:
        logger.warning(
            "No font here has %s, so image sheets show other letters. Install for example DejaVu "
            "Sans, or Noto Sans CJK for Chinese, Japanese and Korean.",
            " ".join(sorted(lacking)),
        )
    return best, lacking


def _missing(place: str | None, letters: frozenset[str]) -> frozenset[str]:
    """The letters that a font draws as it draws what no font has."""
    try:
        font = ImageFont.load_default(16) if place is None else ImageFont.truetype(place, 16)
    except (OSError, ValueError):
        return letters
    nothing = _shape(font, "\uffff")
    return frozenset(letter for letter in letters if _shape(font, letter) == nothing)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _plain(letter: str) -> str:
    """A letter without its accents, or `?`."""
    base = unicodedata.normalize("NFKD", letter)[0]
    return base if base.isascii() else "?"


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """The fonts of this computer whose names are `PREFERRED`, in that order."""
    ranked = []
    for path in _font_files():
        name = path.stem.lower()
        rank = next((n for n, start in enumerate(PREFERRED) if name.startswith(start)), None)
        if rank is not None:
            ranked.append((rank, len(name), str(path)))
    return tuple(place for _, _, place in sorted(ranked))


def _font_files() -> Iterator[Path]:
    for folder in _folders():
        for root, _, files in os.walk(folder):
            yield from (
                Path(root) / name for name in files if Path(name).suffix.lower() in SUFFIXES
            )


def _folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    data = os.environ.get("XDG_DATA_HOME")
    own = Path(data) if data else home / ".local/share"
    shared = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts")]
    return [*shared, own / "fonts", home / ".fonts"]

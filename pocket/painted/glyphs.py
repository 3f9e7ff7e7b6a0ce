"""Classes of the pocket world and their images: colour-emoji glyphs of Noto Color Emoji (OFL).

The font is needed only to paint training data; no glyph is shipped with the project.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from orthodiff.errors import UserError

CLASSES: dict[str, str] = {
    # the classes of the DreamBooth benchmark
    "backpack": "🎒", "boot": "🥾", "bowl": "🥣", "can": "🥫", "candle": "🕯", "cartoon": "😈",
    "cat": "🐈", "clock": "⏰", "dog": "🐕", "glasses": "👓", "sneaker": "👟",
    "stuffed animal": "🧸", "teapot": "🫖", "toy": "🪀", "vase": "🏺",
    "robot": "🤖", "car": "🚗", "toy duck": "🦆",
    # animals
    "bee": "🐝", "butterfly": "🦋", "cow": "🐄", "crab": "🦀", "dinosaur": "🦕",
    "elephant": "🐘", "fish": "🐠", "fox": "🦊", "frog": "🐸", "horse": "🐎", "lion": "🦁",
    "monkey": "🐒", "octopus": "🐙", "owl": "🦉", "panda": "🐼", "penguin": "🐧", "pig": "🐖",
    "rabbit": "🐇", "snail": "🐌", "turtle": "🐢", "whale": "🐳",
    # things
    "airplane": "✈", "apple": "🍎", "balloon": "🎈", "banana": "🍌", "bell": "🔔",
    "bicycle": "🚲", "boat": "⛵", "book": "📕", "bus": "🚌", "cactus": "🌵", "cake": "🎂",
    "camera": "📷", "chair": "🪑", "crown": "👑", "dress": "👗", "drum": "🥁", "guitar": "🎸",
    "hamburger": "🍔", "handbag": "👜", "house": "🏠", "ice cream": "🍦", "key": "🔑",
    "lantern": "🏮", "mushroom": "🍄", "pineapple": "🍍", "pumpkin": "🎃", "rocket": "🚀",
    "trophy": "🏆", "umbrella": "☂",
}  # fmt: skip

GLYPH_SIDE = 128
_FONT_NAME = "NotoColorEmoji.ttf"
_FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_BITMAP_SIZE = 109  # the only size the font's bitmaps exist in


@cache
def emoji_font() -> Path:
    """Path of Noto Color Emoji; `ORTHODIFF_EMOJI_FONT` overrides the search.

    Raises:
        UserError: the font is not installed.
    """
    if override := os.environ.get("ORTHODIFF_EMOJI_FONT"):
        return Path(override)
    for folder in _FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob(_FONT_NAME)):
            return path
    raise UserError(
        f"{_FONT_NAME} was not found, and the pocket world paints its classes with it. "
        "Install it, for example with `apt-get install fonts-noto-color-emoji`, or point "
        "ORTHODIFF_EMOJI_FONT at the file."
    )


@cache
def glyph(name: str) -> np.ndarray:
    """The class's glyph on a transparent square, `(128, 128, 4)` uint8 RGBA, filling it."""
    font = ImageFont.truetype(str(emoji_font()), _BITMAP_SIZE)
    canvas = Image.new("RGBA", (180, 180))
    ImageDraw.Draw(canvas).text((20, 20), CLASSES[name], font=font, embedded_color=True)
    tight = canvas.crop(canvas.getbbox())
    scale = GLYPH_SIDE / max(tight.size)
    size = (round(tight.width * scale), round(tight.height * scale))
    square = Image.new("RGBA", (GLYPH_SIDE, GLYPH_SIDE))
    corner = ((GLYPH_SIDE - size[0]) // 2, (GLYPH_SIDE - size[1]) // 2)
    square.paste(tight.resize(size, Image.Resampling.LANCZOS), corner)
    return np.asarray(square)

"""Images for tests of data: detailed, each different, made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coloured patches under fine grain, the same for the same `seed`."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(30, 226, (4, 6, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-25, 26, smooth.shape, dtype=np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def save(path: Path, seed: int = 0, *, size: tuple[int, int] = (96, 64), **how: Any) -> Path:
    """Write a photo, with its folder; the path again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed, size).save(path, **how)
    return path

"""What a training will see of a photo: cut as it cuts, what its mask leaves out darkened."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from orthodiff.io.images import open_layers
from orthodiff.training.cli.check import PIXELS_PER_LATENT
from orthodiff.training.options import DataOptions

DARKEST = 60
"""What is outside of the mask keeps so many of 255 parts of its light."""


def seen_by_training(
    path: Path, *, name: str, resolution: int, alpha_mask: bool, side: int
) -> Image.Image:
    """The first view of a photo at `resolution`, no larger than `side` to look at.

    With `alpha_mask` what is transparent, and so not learned, is dark.

    Raises:
        UserError: the photo cannot be read, or no crop is possible at this resolution.
    """
    image, alpha = open_layers(path, name=name)
    views = DataOptions().views(resolution, factor=PIXELS_PER_LATENT, seed=0)
    view = views.of(name, image.size)[0]
    seen = view.see(image)
    if alpha_mask and alpha is not None:
        mask = view.cut(alpha, Image.Resampling.BILINEAR)
        light = mask.point(lambda level: max(level, DARKEST))
        seen = Image.composite(seen, Image.new("RGB", seen.size), light)
    seen.thumbnail((side, side), Image.Resampling.LANCZOS)
    return seen

"""Training examples: the pictures of a folder, each with the caption it is trained under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.pictures import find_pictures, open_picture, square


@dataclass(frozen=True)
class Example:
    """One training picture: RGB, square, with its caption."""

    name: str
    image: Image.Image
    caption: str
    is_prior: bool = False

    def pixels(self) -> Tensor:
        """The picture as `(3, H, W)` in [-1, 1]."""
        array = np.asarray(self.image, dtype=np.float32)
        return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous()


def load_examples(
    folder: Path, caption: str, *, resolution: int, is_prior: bool = False
) -> list[Example]:
    """Open every picture of `folder` as an example of `resolution` pixels a side.

    Raises:
        UserError: no pictures, or one that cannot be read (named).
    """
    return [
        Example(path.name, square(open_picture(path), resolution), caption, is_prior)
        for path in find_pictures(folder)
    ]

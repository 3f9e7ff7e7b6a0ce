"""Training examples: the pictures of a folder, each with the caption it is trained under."""

from __future__ import annotations

from pathlib import Path

from orthodiff.pictures import find_pictures, open_picture
from training.data.example import Example


def load_examples(folder: Path, caption: str, *, is_prior: bool = False) -> list[Example]:
    """Open every picture of `folder` as an example.

    Raises:
        UserError: no pictures, or one that cannot be read (named).
    """
    return [
        Example(path.name, open_picture(path), caption, is_prior=is_prior)
        for path in find_pictures(folder)
    ]

"""The example subjects that come with orthodiff, and the photos people bring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from orthodiff.errors import UserError
from orthodiff.pictures import find_pictures, open_picture

LONGEST_SIDE = 2048
MOST_PHOTOS = 50


@dataclass(frozen=True)
class ExampleSubject:
    """A subject with its pictures, ready to train on."""

    name: str
    class_word: str
    pictures: tuple[Path, ...]


def read_examples(folder: Path) -> dict[str, ExampleSubject]:
    """The subjects of `folder` by name; sub-folders without a `subject.json` are left out."""
    found = {}
    for path in sorted(folder.glob("*/subject.json")):
        told = json.loads(path.read_text("utf-8"))
        name = path.parent.name
        pictures = tuple(find_pictures(path.parent))
        found[name] = ExampleSubject(name, told.get("class", name), pictures)
    return found


def open_photos(paths: Sequence[Path]) -> list[Image.Image]:
    """Open what people brought, upright, in RGB, without hidden data such as the place taken.

    Raises:
        UserError: none, too many, or one that cannot be read (named as the person named it).
    """
    if not paths:
        raise UserError("There are no photos yet. Add 3 to 10 photos that show your subject.")
    if len(paths) > MOST_PHOTOS:
        raise UserError(f"{len(paths)} photos are too many. Add at most {MOST_PHOTOS}; 5 do well.")
    return [_open(path) for path in paths]


def _open(path: Path) -> Image.Image:
    try:
        photo = open_picture(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return photo

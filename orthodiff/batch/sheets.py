"""What there is to look at: `index.html`, which works from disk, and contact sheets."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from orthodiff.batch.html import page
from orthodiff.batch.manifest import Log
from orthodiff.batch.store import INDEX
from orthodiff.evaluation.image_grid import contact_sheet
from orthodiff.io.atomic import share_file
from orthodiff.io.png_metadata import png_bytes

ON_A_SHEET = 400
CELL = 192
SMALL = 96
"""Pixels of an image's side on sheets of more than 64."""


def write_sheets(folder: Path, log: Log) -> None:
    """Draw index and contact sheets anew from the manifest."""
    share_file(folder / INDEX, page(log).encode("utf-8", "replace"))
    records = sorted(log.images.values(), key=lambda record: record["index"])
    for start in range(0, len(records), ON_A_SHEET):
        part = records[start : start + ON_A_SHEET]
        number = start // ON_A_SHEET + 1
        name = "contact_sheet.png" if number == 1 else f"contact_sheet_{number}.png"
        _sheet(folder, [_shown(record) for record in part], folder / name)


def _shown(record: dict) -> list[str]:
    """An image's file, between its control image and the overlay if there are any."""
    also = sorted(name for name in record.get("also", {}) if name.endswith(".png"))
    return [also[0], record["file"], also[1]] if len(also) == 2 else [record["file"]]


def _sheet(folder: Path, groups: list[list[str]], place: Path) -> None:
    cell = SMALL if len(groups) > 64 else CELL
    images = [_thumbnail(folder / name, cell) for group in groups for name in group]
    multiple = 3 if any(len(group) == 3 for group in groups) else 1
    sheet = contact_sheet(images, cell=cell, multiple=multiple)
    share_file(place, png_bytes(sheet))


def _thumbnail(path: Path, side: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            image.thumbnail((max(side, 64), max(side, 64)))
            return image.convert("RGB")
    except OSError:
        return Image.new("RGB", (side, side), (128, 128, 128))

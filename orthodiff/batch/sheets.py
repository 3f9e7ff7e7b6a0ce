"""What there is to look at: `index.html`, which works from disk, and contact sheets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from orthodiff.batch.html import page
from orthodiff.batch.manifest import Manifest
from orthodiff.batch.store import INDEX
from orthodiff.evaluation.image_grid import contact_sheet
from orthodiff.io.atomic import sharing

ON_A_SHEET = 400
CELL = 192
SMALL = 96
"""Pixels of an image's side on sheets of more than 64."""


def write_sheets(folder: Path) -> None:
    """Draw index and contact sheets anew from the manifest, if it tells of anything."""
    manifest = Manifest(folder)
    log = manifest.load()
    if not (log.images or log.failed):
        return
    with sharing(folder / INDEX) as new, new.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(page(manifest, log))
    groups, number = map(_shown, manifest.records(log.images)), 1
    while part := list(islice(groups, ON_A_SHEET)):
        name = "contact_sheet.png" if number == 1 else f"contact_sheet_{number}.png"
        _sheet(folder, part, folder / name)
        number += 1


def _shown(record: dict[str, Any]) -> list[str]:
    """An image's file, between its control image and the overlay if there are any."""
    also = sorted(name for name in record.get("also", {}) if name.endswith(".png"))
    return [also[0], record["file"], also[1]] if len(also) == 2 else [record["file"]]


def _sheet(folder: Path, groups: list[list[str]], place: Path) -> None:
    cell = SMALL if len(groups) > 64 else CELL
    names = [name for group in groups for name in group]
    images = (_thumbnail(folder / name, cell) for name in names)
    multiple = 3 if any(len(group) == 3 for group in groups) else 1
    sheet = contact_sheet(images, len(names), cell=cell, multiple=multiple)
    with sharing(place) as new:
        sheet.save(new, "png")


def _thumbnail(path: Path, side: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            image.thumbnail((max(side, 64), max(side, 64)))
            return image.convert("RGB")
    except OSError:
        return Image.new("RGB", (side, side), (128, 128, 128))

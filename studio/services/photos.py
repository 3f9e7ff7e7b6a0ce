"""The example subjects that come with orthodiff, and the photos people bring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from orthodiff.errors import FileError, UserError
from orthodiff.io.images import find_pictures, open_picture
from orthodiff.models import Recommended
from orthodiff.training.cli.check import PIXELS_PER_LATENT
from orthodiff.training.data.check import DataReport, report_on
from orthodiff.training.data.readers.records import DataRequest, Listing, Record
from orthodiff.training.options import DataOptions

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
    report = look_at_photos(paths, resolution=Recommended.resolution)
    if report.problems:
        raise UserError(_refusal(report.problems))
    return [_open(path) for path in paths]


def look_at_photos(paths: Sequence[Path], *, resolution: int) -> DataReport:
    """The report that `python -m training check` would give, with names as the person knows them.

    Raises:
        UserError: there are too many to look at.
    """
    if len(paths) > MOST_PHOTOS:
        raise UserError(f"{len(paths)} photos are too many. Add at most {MOST_PHOTOS}; 5 do well.")
    records = [Record(path.name, path, caption="the prompt of the run") for path in paths]
    views = DataOptions().views(resolution, factor=PIXELS_PER_LATENT, seed=0)
    return report_on(Listing("photos", records), DataRequest(), views=views, trigger=None)


def _refusal(problems: Sequence[FileError]) -> str:
    """All photos that cannot be used, in one sentence."""
    if len(problems) == 1:
        return str(problems[0])
    told = ", ".join(f"`{problem.name}` ({problem.reason})" for problem in problems)
    return f"{len(problems)} photos cannot be used: {told}. Replace or remove them."


def _open(path: Path) -> Image.Image:
    photo = open_picture(path, name=path.name)
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return photo

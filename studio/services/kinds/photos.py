"""Where the images of a training come from: an upload, an example, or another job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import UserError

from ..jobs.folders import PHOTOS
from ..settings.base import FieldError
from ..uploads.subjects import SUBJECT_ID
from .base import Offer, Photos

CONTROLS, LISTED = "control_images", "metadata.jsonl"


def find_photos(offer: Offer, owner: str, subject: str | None) -> Photos:
    """The images of an upload's id or an example's name.

    Raises:
        FieldError: there is none.
    """
    if not subject:
        raise FieldError(
            "subject", "There are no photos yet. Add 3 to 10 photos, or choose an example."
        )
    if SUBJECT_ID.fullmatch(subject):
        try:
            photo_set = offer.subjects.get(owner, subject)
        except UserError as error:
            raise FieldError("subject", str(error)) from error
        captions = [photo.caption for photo in photo_set.photos]
        return Photos(photo_set.paths, captions, photo_set.controls, source=subject)
    example = offer.examples.get(subject)
    if example is None:
        names = ", ".join(offer.examples)
        raise FieldError("subject", f"There is no such example. Choose one of {names}.")
    return Photos(example.images, class_word=example.class_word, source=subject)


def photos_of_job(folder: Path) -> Photos:
    """The images that a job learned from."""
    files = sorted((folder / PHOTOS).glob("*.png"))
    captions = [_text(path.with_suffix(".txt")) for path in files]
    controls = [folder / PHOTOS / CONTROLS / path.name for path in files]
    return Photos(files, captions, [path if path.is_file() else None for path in controls])


def write_photos(photos: Photos, folder: Path) -> None:
    """Copy them as a training reads them: captions of the same stem beside, a list of controls."""
    folder.mkdir(parents=True)
    captions = [*photos.captions, *[""] * len(photos.files)]
    for number, (path, caption) in enumerate(zip(photos.files, captions, strict=False)):
        place = folder / f"{number:02d}{path.suffix.lower()}"
        shutil.copyfile(path, place)
        if caption:
            place.with_suffix(".txt").write_text(caption, "utf-8")
    if any(photos.controls):
        _write_controls(photos.controls, folder)


def _write_controls(controls: Sequence[Path | None], folder: Path) -> None:
    """Copy control images beside the photos; the list that the trainer reads says whose they are.

    Captions stand in the list then, as the trainer takes them from one place.
    """
    (folder / CONTROLS).mkdir()
    rows = []
    for number, control in enumerate(controls):
        (photo,) = (path for path in folder.glob(f"{number:02d}.*") if path.suffix != ".txt")
        row = {"file_name": photo.name, "text": _text(photo.with_suffix(".txt"))}
        if control:
            place = folder / CONTROLS / f"{number:02d}{control.suffix.lower()}"
            shutil.copyfile(control, place)
            row["conditioning_image"] = f"{CONTROLS}/{place.name}"
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / LISTED).write_text("".join(rows), "utf-8")


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""

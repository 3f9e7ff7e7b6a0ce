"""Where the images of a training come from: an upload, an example, or another job."""

from __future__ import annotations

import shutil
from pathlib import Path

from orthodiff.errors import UserError

from ..jobs.folders import PHOTOS
from ..settings.base import FieldError
from ..uploads.subjects import SUBJECT_ID
from .base import Offer, Photos


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
        return Photos(
            photo_set.paths, [photo.caption for photo in photo_set.photos], source=subject
        )
    example = offer.examples.get(subject)
    if example is None:
        names = ", ".join(offer.examples)
        raise FieldError("subject", f"There is no such example. Choose one of {names}.")
    return Photos(example.images, class_word=example.class_word, source=subject)


def photos_of_job(folder: Path) -> Photos:
    """The images that a job learned from."""
    files = sorted((folder / PHOTOS).glob("*.png"))
    captions = [_text(path.with_suffix(".txt")) for path in files]
    return Photos(files, captions)


def write_photos(photos: Photos, folder: Path) -> None:
    """Copy them as a training reads them: captions of the same stem beside."""
    folder.mkdir(parents=True)
    captions = [*photos.captions, *[""] * len(photos.files)]
    for number, (path, caption) in enumerate(zip(photos.files, captions, strict=False)):
        place = folder / f"{number:02d}{path.suffix.lower()}"
        shutil.copyfile(path, place)
        if caption:
            place.with_suffix(".txt").write_text(caption, "utf-8")


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""

"""Photos and control images that people bring."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Form, HTTPException, Query, Response, UploadFile
from fastapi.responses import FileResponse

from orthodiff.errors import UserError

from ..services.preview import seen_by_training
from ..services.settings.limits import check_base
from ..services.settings.presets import sampling_advice
from ..services.uploads.subjects import MOST_PHOTOS, PhotoSet
from ..state import Studio
from .context import Owner, TheStudio
from .files import file_within, serve_file
from .schemas import Captions, PhotoOut, Problem, SubjectOut

ROUTER = APIRouter(prefix="/api/subjects", tags=["subjects"], responses={422: {"model": Problem}})
BLOCK = 1 << 20
PREVIEW = 320
"""Pixels of a preview's longer side."""


@ROUTER.post("", status_code=201)
def add(
    owner: Owner,
    studio: TheStudio,
    photos: Annotated[list[UploadFile], File(description="images, or zip archives of images")],
    control_images: Annotated[
        list[UploadFile] | None, File(description="control images of the same names, or archives")
    ] = None,
    into: Annotated[str | None, Form(description="id of an upload to add them to")] = None,
) -> SubjectOut:
    """Bring photos. They are decoded apart and kept without EXIF; the id goes into a job.

    An archive may hold captions (`NAME.txt` or `metadata.jsonl`) and control images: in a folder
    `control_images`, or as the list's `conditioning_image`.
    """
    uploads = [*photos, *(control_images or ())]
    if len(uploads) > 2 * MOST_PHOTOS:
        raise UserError(f"{len(uploads)} files are too many. Add at most {2 * MOST_PHOTOS}.")
    with tempfile.TemporaryDirectory(dir=studio.scratch) as scratch:
        files = []
        for number, upload in enumerate(uploads):
            path = Path(scratch) / f"{number:04d}"
            receive(upload, path, studio.subjects.quota.largest(upload.filename or "") * BLOCK)
            files.append((upload.filename or f"image {number + 1}", path))
        photo_set = studio.subjects.add(
            owner, files[: len(photos)], controls=files[len(photos) :], into=into or None
        )
    return subject_out(studio, photo_set)


@ROUTER.get("/{subject_id}")
def one(subject_id: str, owner: Owner, studio: TheStudio) -> SubjectOut:
    """The photos of an upload, and what `check` says about them."""
    return subject_out(studio, studio.subjects.get(owner, subject_id))


@ROUTER.post("/{subject_id}/captions")
def caption(subject_id: str, body: Captions, owner: Owner, studio: TheStudio) -> SubjectOut:
    """Write captions by file name."""
    return subject_out(studio, studio.subjects.caption(owner, subject_id, body.captions))


@ROUTER.delete("/{subject_id}/files/{name}")
def remove(subject_id: str, name: str, owner: Owner, studio: TheStudio) -> SubjectOut:
    """Take one photo out."""
    return subject_out(studio, studio.subjects.remove_photo(owner, subject_id, name))


@ROUTER.get("/{subject_id}/seen/{name}", response_class=Response)
def seen(
    subject_id: str,
    name: str,
    owner: Owner,
    studio: TheStudio,
    base: Annotated[str | None, Query(max_length=200)] = None,
    resolution: Annotated[int | None, Query(ge=32, le=2048)] = None,
    alpha_mask: bool = False,
) -> Response:
    """A photo as a training on a base will see it: cut, and dark where it learns nothing."""
    path = file_within(studio.subjects.get(owner, subject_id).folder, name)
    if path is None or path.suffix != ".png":
        raise HTTPException(404, "There is no such file.")
    side = resolution or sampling_advice(check_base(base, studio.bases)).resolution
    image = seen_by_training(path, name=name, resolution=side, alpha_mask=alpha_mask, side=PREVIEW)
    packed = io.BytesIO()
    image.save(packed, "WEBP", quality=82)
    headers = {"cache-control": "private, max-age=3600"}
    return Response(packed.getvalue(), media_type="image/webp", headers=headers)


@ROUTER.get("/{subject_id}/files/{name}", response_class=FileResponse)
def file_of(
    subject_id: str,
    name: str,
    owner: Owner,
    studio: TheStudio,
    size: Annotated[int | None, Query(ge=16, le=2048)] = None,
) -> FileResponse:
    """One clean photo."""
    folder = studio.subjects.get(owner, subject_id).folder
    return serve_file(folder, name, cache=studio.thumbnails, size=size)


@ROUTER.get("/{subject_id}/control/{name}", response_class=Response)
def control_of(
    subject_id: str,
    name: str,
    owner: Owner,
    studio: TheStudio,
    kind: Annotated[str, Query(pattern=r"^[a-z_]{1,40}$")] = "canny",
    size: Annotated[int, Query(ge=16, le=1024)] = 640,
) -> Response:
    """The control image of a photo as a training would see it: its own, or one computed of it."""
    image = studio.control_preview(owner, subject_id, name, kind, side=size)
    headers = {"cache-control": "private, max-age=3600"}
    return Response(image, media_type="image/png", headers=headers)


def subject_out(studio: Studio, photo_set: PhotoSet) -> SubjectOut:
    """An upload with its advice."""
    place = f"api/subjects/{photo_set.id}/files"
    problems, advice = studio.check_photos(photo_set)
    return SubjectOut(
        id=photo_set.id,
        photos=[
            PhotoOut(
                **{**vars(photo), "control": f"{place}/{photo.control}" if photo.control else ""},
                url=f"{place}/{photo.file}",
                thumbnail=f"{place}/{Path(photo.file).with_suffix('.webp')}",
                problem=problems.get(photo.file, ""),
            )
            for photo in photo_set.photos
        ],
        problems=list(photo_set.problems),
        advice=advice,
        recipe=_recipe(photo_set.recipe),
    )


def _recipe(text: str | None) -> dict | None:
    try:
        recipe = json.loads(text) if text else None
    except ValueError:
        return None
    return recipe if isinstance(recipe, dict) else None


def receive(upload: UploadFile, path: Path, limit: int) -> None:
    """Copy a file block by block, no further than its limit."""
    left = limit
    with path.open("wb") as target:
        while block := upload.file.read(BLOCK):
            left -= len(block)
            if left < 0:
                name = (upload.filename or "image").replace("\\", "/").rpartition("/")[2]
                raise UserError(f"`{name}` is larger than {limit // BLOCK} MB. Scale it down.")
            target.write(block)

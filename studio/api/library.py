"""Adapters: listed, looked into, brought, combined, exported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from orthodiff.errors import UserError

from ..services.adapters import AdapterEntry
from ..services.exports import Format, export_adapter
from ..services.kinds.images import base_for
from ..services.library.details import facts_of
from ..services.library.rotation import Turn, newest_weights, turns
from ..state import Studio
from .answers import Built
from .context import Owner, TheAnswers, TheStudio
from .describe import job_out
from .files import serve_file
from .schemas import AdapterOut, Problem
from .subjects import receive

ROUTER = APIRouter(prefix="/api", tags=["adapters"], responses={422: {"model": Problem}})
ADAPTERS_OUT = TypeAdapter(list[AdapterOut])
MOST_FILES = 20
UPLOAD_MEBI = 200


class ExportIn(BaseModel):
    """The format to write; `merged` is the whole base with the adapter in its weights."""

    model_config = ConfigDict(extra="forbid")

    format: Format


class ExportOut(BaseModel):
    """Where the file is."""

    name: str
    url: str
    size: int


class CombineIn(BaseModel):
    """Two adapters to keep as one: composed, or with `blend` on the way between them."""

    model_config = ConfigDict(extra="forbid")

    adapters: tuple[str, str]
    blend: float | None = Field(None, ge=0, le=1)
    name: str = Field("", max_length=60, pattern=r"^([a-z0-9][a-z0-9_-]*)?$")


class DetailsOut(BaseModel):
    """What an adapter says of itself, and its scores where it was trained here."""

    adapter: AdapterOut
    facts: dict[str, str]
    subject_similarity: float | None = None
    prompt_similarity: float | None = None


class RotationOut(BaseModel):
    """How far each layer turns, in degrees; or in `reason` why that cannot be said."""

    layers: list[Turn] = []
    reason: str = ""


@ROUTER.get("/adapters", response_model=list[AdapterOut])
async def adapters(
    request: Request, owner: Owner, studio: TheStudio, answers: TheAnswers
) -> Response:
    """The adapters that can be used, the newest first."""

    def build() -> Built:
        studio.jobs.adopt()
        entries = [adapter_out(studio, entry) for entry in studio.adapters.list(owner)]
        return ADAPTERS_OUT.dump_json(entries), False

    return await answers.give(request, ("adapters", owner), build)


@ROUTER.post("/adapters/import", status_code=201)
def bring(
    owner: Owner, studio: TheStudio, files: Annotated[list[UploadFile], File(description="files")]
) -> AdapterOut:
    """Bring an adapter of ours or of PEFT: its files, or a zip of its folder.

    Safetensors only. It is put on its base in a process of its own, which checks every shape.
    """
    if len(files) > MOST_FILES:
        raise UserError(f"{len(files)} files are too many. Bring one adapter at a time.")
    with tempfile.TemporaryDirectory(dir=studio.scratch) as scratch:
        brought = []
        for number, upload in enumerate(files):
            path = Path(scratch) / f"{number:04d}"
            receive(upload, path, UPLOAD_MEBI << 20)
            brought.append((upload.filename or "file", path))
        job = studio.library.bring(owner, brought)
    return adapter_out(studio, studio.adapters.get(owner, job.id))


@ROUTER.post("/adapters/combine", status_code=201)
def combine(body: CombineIn, owner: Owner, studio: TheStudio) -> AdapterOut:
    """Keep two adapters as a new one."""
    entries = [studio.adapters.get(owner, one) for one in body.adapters]
    job = studio.library.combine(owner, entries, blend=body.blend, name=body.name)
    return adapter_out(studio, studio.adapters.get(owner, job.id))


@ROUTER.get("/adapters/{adapter_id}")
def details(
    adapter_id: str, owner: Owner, studio: TheStudio, checkpoint: str = "recommended"
) -> DetailsOut:
    """What an adapter says of itself."""
    entry = studio.adapters.get(owner, adapter_id)
    job = job_out(entry.job) if entry.job else None
    return DetailsOut(
        adapter=adapter_out(studio, entry),
        facts=facts_of(entry, checkpoint),
        subject_similarity=job.subject_similarity if job else None,
        prompt_similarity=job.prompt_similarity if job else None,
    )


@ROUTER.get("/adapters/{adapter_id}/rotation")
def rotation(
    adapter_id: str, owner: Owner, studio: TheStudio, checkpoint: str = "recommended"
) -> RotationOut:
    """How far an adapter turns each layer."""
    return _rotation(studio.adapters.get(owner, adapter_id).weights(checkpoint))


@ROUTER.get("/jobs/{job_id}/rotation")
def rotation_of_job(job_id: str, owner: Owner, studio: TheStudio) -> RotationOut:
    """How far a training has turned each layer by now: its best weights, or its newest ones."""
    folder = newest_weights(studio.jobs.get(owner, job_id).folder)
    return _rotation(folder) if folder else RotationOut(reason="There are no weights yet.")


@ROUTER.post("/adapters/{adapter_id}/export")
def export(adapter_id: str, body: ExportIn, owner: Owner, studio: TheStudio) -> ExportOut:
    """Write an adapter for other tools; the answer says where it can be fetched."""
    entry = studio.adapters.get(owner, adapter_id)
    base = base_for(studio.offer, None, [entry])
    path = export_adapter(entry, body.format, studio.exports / owner, base=base)
    return ExportOut(name=path.name, url=f"api/exports/{path.name}", size=path.stat().st_size)


@ROUTER.get("/exports/{name}", response_class=FileResponse)
def exported(name: str, owner: Owner, studio: TheStudio) -> FileResponse:
    """An exported file of this user."""
    return serve_file(studio.exports / owner, name, cache=studio.thumbnails)


def _rotation(folder: Path) -> RotationOut:
    try:
        return RotationOut(layers=list(turns(folder)))
    except UserError as error:
        return RotationOut(reason=str(error).replace(str(folder), "It"))
    except OSError:
        return RotationOut(reason="There are no weights yet.")


def adapter_out(studio: Studio, entry: AdapterEntry) -> AdapterOut:
    """An adapter as it is shown."""
    job = job_out(entry.job) if entry.job else None
    kind: Literal["subject", "control"] = "control" if entry.is_control else "subject"
    return AdapterOut(
        id=entry.id,
        name=entry.name,
        kind=kind,
        base=studio.base_title(entry.recipe.get("base", "")),
        method=entry.recipe.get("method", "") or (job.method if job else ""),
        trigger=entry.trigger,
        prompt=entry.recipe.get("instance_prompt", ""),
        checkpoints=entry.checkpoints,
        size=entry.size,
        created=entry.job.created if entry.job else None,
        thumbnail=job.thumbnail if job else None,
        job=entry.job.id if entry.job else None,
        condition=entry.condition,
        source=str(entry.job.request.get("source", "")) if entry.job else "",
    )

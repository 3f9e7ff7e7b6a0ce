"""Images and adapters."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil
import torch
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter
from starlette.background import BackgroundTask

from ..services.exports import export_adapter
from ..services.jobs.folders import OUTPUT
from ..services.jobs.job import Job
from ..services.jobs.progress import read_batch
from ..services.sampling.plan import Album
from ..state import Studio
from .answers import Built
from .context import Owner, TheAnswers, TheStudio
from .describe import job_out
from .files import serve_file
from .schemas import AdapterOut, GenerateIn, JobCreated, Problem, Resources

ROUTER = APIRouter(prefix="/api", responses={422: {"model": Problem}})
ADAPTERS_OUT = TypeAdapter(list[AdapterOut])


@ROUTER.post("/generate", status_code=202, tags=["images"])
def generate(body: GenerateIn, owner: Owner, studio: TheStudio) -> JobCreated:
    """Ask for images; follow the job, then fetch `/api/jobs/{id}/images`."""
    job = studio.generate(owner, body.config, control=body.control)
    return JobCreated(id=job.id, status=job.status, name=job.name)


@ROUTER.get("/adapters", tags=["adapters"], response_model=list[AdapterOut])
async def adapters(
    request: Request, owner: Owner, studio: TheStudio, answers: TheAnswers
) -> Response:
    """The adapters that can be used, the newest first."""

    def build() -> Built:
        return ADAPTERS_OUT.dump_json(adapters_out(studio, owner)), False

    return await answers.give(request, ("adapters", owner), build)


class ExportIn(BaseModel):
    """The format to write."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["adapter", "lora", "kohya", "diff"]


class ExportOut(BaseModel):
    """Where the file is."""

    name: str
    url: str
    size: int


@ROUTER.post("/adapters/{adapter_id}/export", tags=["adapters"])
def export(adapter_id: str, body: ExportIn, owner: Owner, studio: TheStudio) -> ExportOut:
    """Write an adapter for other tools; the answer says where it can be fetched."""
    entry = studio.adapters.get(owner, adapter_id)
    path = export_adapter(entry, body.format, studio.exports / owner)
    return ExportOut(name=path.name, url=f"api/exports/{path.name}", size=path.stat().st_size)


@ROUTER.get("/exports/{name}", tags=["adapters"], response_class=FileResponse)
def exported(name: str, owner: Owner, studio: TheStudio) -> FileResponse:
    """An exported file of this user."""
    return serve_file(studio.exports / owner, name, cache=studio.thumbnails)


@ROUTER.get("/examples/{name}/{file}", tags=["subjects"], response_class=FileResponse)
def example(name: str, file: str, owner: Owner, studio: TheStudio) -> FileResponse:
    """An image of an example subject."""
    example = studio.examples.get(name)
    for path in example.images if example else ():
        if path.name == file:
            return serve_file(path.parent, file, cache=studio.thumbnails)
    raise HTTPException(404, "There is no such file.")


@ROUTER.get("/jobs/{job_id}/zip", tags=["images"], response_class=FileResponse)
def archive(job_id: str, owner: Owner, studio: TheStudio) -> FileResponse:
    """All images of a job in one file; each has its recipe inside."""
    job = studio.jobs.get(owner, job_id)
    place = studio.scratch / f"{job.id}-{time.time_ns()}.zip"
    with zipfile.ZipFile(place, "w") as pack:
        for name in dict.fromkeys(_files(job)):
            pack.write(job.folder / name, Path(name).name)
    return FileResponse(
        place,
        media_type="application/zip",
        filename=f"images-{job.id}.zip",
        background=BackgroundTask(place.unlink, missing_ok=True),
    )


@ROUTER.get("/resources", tags=["health"], response_model=Resources)
async def resources(request: Request, owner: Owner, answers: TheAnswers) -> Response:
    """How busy this computer is."""
    return await answers.give(request, "resources", _resources)


def _resources() -> Built:
    memory = psutil.virtual_memory()
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
    now = Resources(
        cpu=psutil.cpu_percent(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        gpu_used=total - free,
        gpu_total=total,
    )
    return now.model_dump_json().encode(), True


def _files(job: Job) -> Iterator[str]:
    """The images of a job, and what steered them."""
    for record in read_batch(job.folder):
        yield f"{OUTPUT}/{record['file']}"
    for image in Album.load(job.folder).images:
        yield from filter(None, (image.file, image.map, image.overlay))


def adapters_out(studio: Studio, owner: str) -> list[AdapterOut]:
    """The adapters of a user, as they are shown."""
    studio.jobs.adopt()
    adapters = []
    for entry in studio.adapters.list(owner):
        job = job_out(entry.job) if entry.job else None
        adapters.append(
            AdapterOut(
                id=entry.id,
                name=entry.name,
                kind="control" if entry.is_control else "subject",
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
            )
        )
    return adapters

"""Images, and what they are made of."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from ..services.jobs.folders import OUTPUT
from ..services.jobs.job import Job
from ..services.jobs.progress import read_batch
from ..services.sampling.plan import Album
from .answers import Built
from .context import Owner, TheAnswers, TheStudio
from .files import serve_file
from .schemas import GenerateIn, JobCreated, Problem, Resources

ROUTER = APIRouter(prefix="/api", responses={422: {"model": Problem}})


@ROUTER.post("/generate", status_code=202, tags=["images"])
def generate(body: GenerateIn, owner: Owner, studio: TheStudio) -> JobCreated:
    """Ask for images; follow the job, then fetch `/api/jobs/{id}/images`."""
    job = studio.generate(owner, body.config, control=body.control)
    return JobCreated(id=job.id, status=job.status, name=job.name)


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

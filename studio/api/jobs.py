"""Jobs: asked for, listed, followed, stopped, resumed, deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic_core import to_json

from ..services.jobs.job import Job
from ..services.jobs.progress import log_tail
from ..services.jobs.scheduler import start_order
from ..services.jobs.store import Query as JobQuery
from ..state import Studio
from .answers import Built
from .context import Owner, TheAnswers, TheStudio
from .describe import album, curves, job_out
from .files import serve_file
from .schemas import Changes, Image, JobCreated, JobIn, JobList, JobOut, NewName, Problem

ROUTER = APIRouter(
    prefix="/api/jobs", tags=["jobs"], responses={404: {"model": Problem}, 422: {"model": Problem}}
)
PER_PAGE = 24
Group = Literal["all", "active", "succeeded", "failed", "trash"]
GROUPS: dict[str, tuple[str, ...]] = {
    "all": (),
    "active": ("queued", "running"),
    "succeeded": ("succeeded",),
    "failed": ("failed", "cancelled", "interrupted"),
    "trash": (),
}


@ROUTER.post("", status_code=201)
def create(body: JobIn, owner: Owner, studio: TheStudio) -> JobCreated:
    """Queue a job with a snapshot of its settings and its data."""
    job = studio.submit(owner, body.kind, body.config, subject=body.subject, name=body.name)
    return JobCreated(id=job.id, status=job.status, name=job.name)


@ROUTER.get("", response_model=JobList)
async def listing(
    request: Request,
    owner: Owner,
    studio: TheStudio,
    answers: TheAnswers,
    q: Annotated[str, Query(max_length=100)] = "",
    group: Group = "all",
    kind: Annotated[str, Query(pattern=r"^[a-z,]{0,60}$")] = "dreambooth,control,batch,evaluate",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = PER_PAGE,
) -> Response:
    """A page of jobs: what waits in its order, then the newest first."""
    kinds = tuple(word for word in kind.split(",") if word)
    query = JobQuery(
        owner=owner, statuses=GROUPS[group], kinds=kinds, words=q, trashed=group == "trash"
    )

    def build() -> Built:
        jobs = _page(studio, query, page, per_page)
        return jobs.model_dump_json().encode(), jobs.active > 0

    return await answers.give(request, ("jobs", query, page, per_page), build)


def _page(studio: Studio, query: JobQuery, page: int, per_page: int) -> JobList:
    studio.jobs.adopt()
    studio.jobs.scheduler.expect("images" if query.kinds == ("generate",) else "training")
    store, owner = studio.jobs.store, str(query.owner)
    total = store.count(query)
    jobs = store.list(query, limit=per_page, offset=(page - 1) * per_page)
    active = store.count(replace(query, statuses=("queued", "running"), words="", trashed=False))
    places = _places(studio, owner) if any(job.status == "queued" for job in jobs) else {}
    return JobList(
        jobs=[job_out(job, place=places.get(job.id)) for job in jobs],
        total=total,
        active=active,
        page=page,
        pages=max(1, -(-total // per_page)),
    )


@ROUTER.get("/{job_id}", response_model=JobOut)
async def one(
    job_id: str, request: Request, owner: Owner, studio: TheStudio, answers: TheAnswers
) -> Response:
    """A job as it stands."""

    def build() -> Built:
        job = studio.jobs.get(owner, job_id)
        return _out(studio, job).model_dump_json().encode(), job.is_active

    return await answers.give(request, ("job", owner, job_id), build)


@ROUTER.get("/{job_id}/curves")
async def curves_of(
    job_id: str, request: Request, owner: Owner, studio: TheStudio, answers: TheAnswers
) -> Response:
    """Loss, validation loss, scores per checkpoint, samples."""

    def build() -> Built:
        job = studio.jobs.get(owner, job_id)
        return to_json(curves(job), inf_nan_mode="null"), job.is_active

    return await answers.give(request, ("curves", owner, job_id), build)


@ROUTER.get("/{job_id}/images")
def images_of(job_id: str, owner: Owner, studio: TheStudio) -> list[Image]:
    """The images that a job has made by now."""
    return album(studio.jobs.get(owner, job_id))


@ROUTER.get("/{job_id}/config")
def config_of(job_id: str, owner: Owner, studio: TheStudio) -> dict:
    """The settings that the job was made with."""
    return dict(studio.jobs.get(owner, job_id).request)


@ROUTER.get("/{job_id}/log", response_class=PlainTextResponse)
def log_of(
    job_id: str, owner: Owner, studio: TheStudio, lines: Annotated[int, Query(ge=1, le=500)] = 100
) -> str:
    """The last lines of a job's log, without the folders of this computer."""
    job = studio.jobs.get(owner, job_id)
    return studio.without_paths(log_tail(job.folder, lines=lines), job)


@ROUTER.get("/{job_id}/files/{name:path}", response_class=FileResponse)
def file_of(
    job_id: str,
    name: str,
    owner: Owner,
    studio: TheStudio,
    size: Annotated[int | None, Query(ge=16, le=2048)] = None,
) -> FileResponse:
    """A file of a job; `size` asks for a thumbnail."""
    job = studio.jobs.get(owner, job_id)
    return serve_file(job.folder, name, cache=studio.thumbnails, size=size)


@ROUTER.post("/{job_id}/cancel")
def cancel(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """End a job; asked again, at once."""
    return _out(studio, studio.jobs.cancel(owner, job_id))


@ROUTER.post("/{job_id}/pause")
def pause(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Let a training save a checkpoint and end."""
    return _out(studio, studio.jobs.pause(owner, job_id))


@ROUTER.post("/{job_id}/sample")
def sample(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Let a running training make its sample images now; `asked` has `sample` until they are."""
    return _out(studio, studio.jobs.sample(owner, job_id))


@ROUTER.post("/{job_id}/save")
def save(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Let a running training save a checkpoint now; `asked` has `save` until it is there."""
    return _out(studio, studio.jobs.save(owner, job_id))


@ROUTER.post("/{job_id}/stop-after")
def stop_after(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Let a running batch finish the image that it is making, and end."""
    return _out(studio, studio.jobs.stop_after(owner, job_id))


@ROUTER.post("/{job_id}/resume")
def resume(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Queue a job again that ended early."""
    return _out(studio, studio.jobs.resume(owner, job_id))


@ROUTER.post("/{job_id}/duplicate", status_code=201)
def duplicate(job_id: str, body: Changes, owner: Owner, studio: TheStudio) -> JobCreated:
    """Queue the same job anew, with changes."""
    job = studio.duplicate(owner, job_id, body.config, name=body.name)
    return JobCreated(id=job.id, status=job.status, name=job.name)


@ROUTER.post("/{job_id}/move")
def move(job_id: str, owner: Owner, studio: TheStudio, to: Literal["up", "down"] = "up") -> JobOut:
    """One place up or down in the queue."""
    return _out(studio, studio.jobs.move(owner, job_id, up=to == "up"))


@ROUTER.post("/{job_id}/rename")
def rename(job_id: str, body: NewName, owner: Owner, studio: TheStudio) -> JobOut:
    """Another name to show."""
    return _out(studio, studio.jobs.rename(owner, job_id, body.name))


@ROUTER.post("/{job_id}/restore")
def restore(job_id: str, owner: Owner, studio: TheStudio) -> JobOut:
    """Out of the trash again."""
    return _out(studio, studio.jobs.restore(owner, job_id))


@ROUTER.delete("/{job_id}", status_code=204)
def delete(job_id: str, owner: Owner, studio: TheStudio) -> Response:
    """Into the trash, from which it can be restored for two weeks."""
    studio.jobs.delete(owner, job_id)
    return Response(status_code=204)


def _out(studio: Studio, job: Job) -> JobOut:
    place = _places(studio, job.owner).get(job.id) if job.status == "queued" else None
    out = job_out(job, place=place)
    return out.model_copy(update={"error": studio.without_paths(out.error, job)})


def _places(studio: Studio, owner: str) -> dict[str, int]:
    """The places of a user's waiting jobs among those of all users, counted from 1 in each lane."""
    store = studio.jobs.store
    waiting, starts = store.in_status("queued"), store.last_starts()
    places = {}
    for lane in {job.lane for job in waiting}:
        order = start_order([job for job in waiting if job.lane == lane], starts)
        places |= {job.id: n for n, job in enumerate(order, start=1) if job.owner == owner}
    return places

"""A job's events as they happen, as server-sent events that go on where they were cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ..services.jobs.progress import events_of_job
from ..state import Studio
from .context import Owner, TheStudio

ROUTER = APIRouter(prefix="/api/jobs", tags=["jobs"])
PACE, HEARTBEAT = 0.5, 15.0
HIDDEN = ("pid", "output_dir", "path")


@ROUTER.get("/{job_id}/events", response_class=StreamingResponse)
async def events(
    job_id: str,
    request: Request,
    owner: Owner,
    studio: TheStudio,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Every event of a job from the first, or from after `Last-Event-ID`, until it has ended.

    Each has an `id` (its place in the job), an `event` (Started, Step, Sample, Scored, Saved,
    Finished, Failed) and `data` as JSON; `status` comes whenever the job's status changes.
    """
    await run_in_threadpool(studio.jobs.get, owner, job_id)
    first = int(last_event_id) + 1 if last_event_id and last_event_id.isdigit() else 0
    stream = _stream(studio, owner, job_id, first, request)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _stream(
    studio: Studio, owner: str, job_id: str, place: int, request: Request
) -> AsyncIterator[str]:
    job, version, status, silent = None, -1, "", 0.0
    while not await request.is_disconnected():
        if job is None or studio.jobs.store.version() != version:
            version = studio.jobs.store.version()
            job = await run_in_threadpool(studio.jobs.get, owner, job_id)
        events = await run_in_threadpool(events_of_job, job.folder)
        for number in range(place, len(events)):
            event = dict(events[number])
            name = event.pop("event", "event")
            data = {key: value for key, value in event.items() if key not in HIDDEN}
            yield f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
        silent = 0.0 if place < len(events) else silent + PACE
        place = max(place, len(events))
        if job.status != status:
            status = job.status
            yield f"event: status\ndata: {json.dumps({'status': status, 'error': job.error})}\n\n"
        if not job.is_active:
            return
        if silent >= HEARTBEAT:
            silent = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(PACE)

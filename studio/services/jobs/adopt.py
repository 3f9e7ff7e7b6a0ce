"""Takes runs into the store that were started elsewhere: on the command line, or before it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from orthodiff.control import is_control
from orthodiff.training.events.history import History

from .folders import RunFolders
from .job import RESUMABLE, TRAININGS, Job, Status, new_id
from .progress import EVENTS, can_continue, history_of_job, read_progress
from .store import JobStore

QUIET = 60.0
"""Seconds without an event after which a run without an end is taken for dead."""
LEEWAY = 1.0
"""Seconds: a process younger than the note of its id is another one with the same id."""


def adopt(store: JobStore, runs: RunFolders, *, owner: str) -> list[Job]:
    """Add a job for each run folder that no job knows; the jobs that were added.

    One that ended early and was gone on with elsewhere runs again, or has finished meanwhile.
    """
    new = runs.existing(store.folders())
    added = [store.add(_job(folder, owner)) for folder in new if _is_settled(folder)]
    return [*added, *_rejoined(store)]


def _rejoined(store: JobStore) -> list[Job]:
    """Jobs that somebody has gone on with on the command line since they ended."""
    rejoined = []
    for job in store.in_status(*RESUMABLE):
        if job.kind not in TRAININGS or _changed(job.folder) <= (job.ended or 0) + LEEWAY:
            continue
        started = history_of_job(job.folder).started
        is_newer = float(started.get("time", 0)) > (job.ended or 0)
        if is_newer and _is_settled(job.folder) and store.rejoin(job, _process(started)):
            rejoined.append(job)
    return rejoined


def _is_settled(folder: Path) -> bool:
    """Whether it can be said what becomes of a run: ended, alive, or long quiet."""
    history = history_of_job(folder)
    quiet = time.time() - _changed(folder) > QUIET
    return bool(history.end) or quiet or bool(_process(history.started))


def _changed(folder: Path) -> float:
    try:
        return (folder / EVENTS).stat().st_mtime
    except OSError:
        return 0.0


def _job(folder: Path, owner: str) -> Job:
    history = history_of_job(folder)
    handle = _process(history.started)
    status = _status(history, alive=bool(handle))
    begun = float(history.started.get("time", 0.0)) or _changed(folder)
    last_word = None if handle else _changed(folder)
    ended = float(history.end["time"]) if history.end else last_word
    started = history.started
    job = Job(
        id=new_id(),
        kind="control" if is_control(folder) else "dreambooth",
        owner=owner,
        name=folder.name,
        status=status,
        folder=folder,
        created=begun,
        started=begun,
        ended=ended,
        handle=handle,
        attempt=1,
        request={
            "method": str(started.get("method", "")),
            "base": Path(str(started.get("base", ""))).name,
            "prompt": str(started.get("instance_prompt", "")),
            "adopted": True,
        },
    )
    summary = {k: v for k, v in vars(read_progress(folder)).items() if v not in (None, "", 0, {})}
    return replace(job, summary=summary, error=_reason(job, history))


def _status(history: History, *, alive: bool) -> Status:
    if history.end and history.end["event"] == "Finished":
        return "succeeded"
    if alive:
        return "running"
    if history.end and not str(history.end["reason"]).startswith("stopped by"):
        return "failed"
    return "interrupted"


def _reason(job: Job, history: History) -> str:
    if job.status == "failed" and history.end:
        return str(history.end["reason"])
    if job.status == "interrupted":
        saved = "from its newest checkpoint" if can_continue(job) else "anew"
        return f"It ended before its last step. Resume: it goes on {saved}."
    return ""


def _process(started: Mapping[str, Any]) -> dict[str, Any]:
    """The handle of a training that is alive, and is one: a folder may note any id."""
    with contextlib.suppress(psutil.Error, KeyError, ValueError, TypeError):
        process = psutil.Process(int(started["pid"]))
        created = process.create_time()
        is_training = any(word in ("train", "training") for word in process.cmdline())
        if created <= float(started["time"]) + LEEWAY and is_training:
            return {"pid": process.pid, "created": created, "slot": 0}
    return {}

"""What a job's folder says about it: how far it is, and how it ended. Nothing is remembered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from orthodiff.batch.manifest import Manifest
from orthodiff.errors import UserError
from orthodiff.training.checkpoints.sealed import list_checkpoints
from orthodiff.training.events.history import History
from orthodiff.training.events.log import EventReader

from .executor import LOG
from .job import TRAININGS, Job, Status

EVENTS, MANIFEST = "events.jsonl", "out/manifest.jsonl"
LOG_LINES = 14
"""Enough for an error and what led to it."""
REMEMBERED = 64
"""Folders whose events are held in memory."""
STOPPED_BY = (128 + 15, 128 + 2)
"""Exit codes of a training that SIGTERM or SIGINT ended: it was stopped, and did not fail."""
NOTHING = History.of([])


@dataclass(frozen=True)
class Progress:
    """How far a job is; times in seconds, what is not known yet is None."""

    step: int = 0
    total: int = 0
    loss: float | None = None
    seconds_per_step: float | None = None
    eta: float | None = None
    seconds: float | None = None
    parameters: int | None = None
    best_step: int | None = None
    best_reason: str = ""
    subject_similarity: float | None = None
    prompt_similarity: float | None = None
    subject_similarities: Mapping[str, float] = field(default_factory=dict)


def history_of_job(folder: Path) -> History:
    """The events of a job, read anew only where they have grown; none where they are damaged."""
    path = folder / EVENTS
    try:
        status = path.stat()
    except OSError:
        return NOTHING
    return _history(path, status.st_mtime_ns, status.st_size)


def read_progress(folder: Path, *, since: float | None = None) -> Progress:
    """The progress that events tell; `since` is when the present process was started."""
    if (folder / MANIFEST).is_file():
        return Progress(step=len(read_batch(folder)))
    history = history_of_job(folder)
    started, last = history.started, history.steps[-1] if history.steps else None
    if since and started and started["time"] < since - 1:
        last = None  # the present process has said nothing yet
    ending: Mapping[str, Any] = history.end or {}
    score = _score_of(history, ending.get("best_step"))
    return Progress(
        step=int(last["step"]) if last else int(started.get("start_step", 0)),
        total=int(started.get("steps", 0)),
        loss=last.get("loss") if last else None,
        seconds_per_step=last.get("seconds_per_step") if last else None,
        eta=_time_left(last) if last and not history.end else None,
        seconds=ending.get("seconds"),
        parameters=started.get("parameters"),
        best_step=ending.get("best_step"),
        best_reason=str(ending.get("best_reason") or ""),
        subject_similarity=score.get("subject_similarity"),
        prompt_similarity=score.get("prompt_similarity"),
        subject_similarities=score.get("subject_similarities", {}),
    )


def stage_of(job: Job) -> str:
    """What a running training does before its first step; empty for everything else."""
    if job.status != "running" or job.kind not in TRAININGS:
        return ""
    history, since = history_of_job(job.folder), (job.started or 0) - 1

    def has(events: Sequence[Mapping[str, Any]]) -> bool:
        return bool(events) and bool(events[-1]) and float(events[-1]["time"]) >= since

    if not has([history.started]):
        return "Loading the base model"
    if has(history.steps):
        return ""
    if has(history.scores) or job.request.get("validation_prompts") == []:
        return "Taking the first step"
    return "Comparing samples" if has(history.samples) else "Making samples before the first step"


def read_batch(folder: Path) -> list[dict[str, Any]]:
    """The images of a batch that are there by now, in their order."""
    try:
        manifest = Manifest((folder / MANIFEST).parent)
        return list(manifest.records(manifest.load().images))
    except (UserError, OSError):
        return []


def judge_end(job: Job, code: int | None) -> tuple[Status, str, dict[str, Any]]:
    """The terminal status, a sentence for an unhappy one, and what remains to be shown."""
    progress = read_progress(job.folder)
    summary = {k: v for k, v in vars(progress).items() if v not in (None, "", 0, {}) and k != "eta"}
    ending = _ending(job)
    if code == 0 or ending.get("event") == "Finished":
        return "succeeded", "", summary
    if job.wish == "cancel":
        return "cancelled", "", summary
    if job.wish in ("pause", "finish"):
        return "interrupted", _paused(job, progress), summary
    reason = str(ending.get("reason", ""))
    if code in STOPPED_BY or reason.startswith("stopped by") or (code is None and not reason):
        return "interrupted", _interrupted(job, code), summary
    return "failed", reason or _why_it_failed(job.folder, code), summary


def _ending(job: Job) -> Mapping[str, Any]:
    """How the present process says it ended; what an earlier one said does not count."""
    ending = history_of_job(job.folder).end
    return ending if ending and ending["time"] >= (job.started or 0) - 1 else {}


def log_tail(folder: Path, *, lines: int = LOG_LINES) -> str:
    """The last lines of a job's log."""
    return "\n".join(_read(folder / LOG).replace("\r", "\n").splitlines()[-lines:])


def can_continue(job: Job) -> bool:
    """Whether there is a checkpoint to go on from."""
    return job.kind in TRAININGS and bool(list_checkpoints(job.folder))


def _paused(job: Job, progress: Progress) -> str:
    if job.kind == "batch":
        total = int(job.request.get("images") or 0)
        return f"Stopped after {progress.step} of {total} images. Resume: the others are made."
    if can_continue(job):
        return f"Paused at step {progress.step}; a checkpoint is saved."
    return "Paused before there was a checkpoint; it begins anew when it is resumed."


def _interrupted(job: Job, code: int | None) -> str:
    how = "was asked to stop from outside" if code else "is gone without having finished"
    saved = "goes on from its newest checkpoint" if can_continue(job) else "begins anew"
    saved = "makes what is missing" if job.kind == "batch" else saved
    return (
        f"Its process {how} (killed, out of memory, or the computer was restarted). "
        f"Resume: it {saved}."
    )


def _why_it_failed(folder: Path, code: int | None) -> str:
    """The command's own sentence, or its exit code."""
    for line in reversed(log_tail(folder, lines=100).splitlines()):
        if line.startswith(("error: ", "failed: ")):
            return line.partition(": ")[2]
    return f"Its process ended with exit code {code}. The log has the details."


def _score_of(history: History, step: int | None) -> Mapping[str, Any]:
    """The scores of the best step, or the newest there are."""
    of_step = [score for score in history.scores if score["step"] == step]
    return next(iter(of_step), history.scores[-1] if history.scores else {})


def _time_left(last: Mapping[str, Any]) -> float | None:
    """Counted down since the last step."""
    eta = last.get("eta_seconds")
    return None if eta is None else max(0.0, float(eta) - (time.time() - last["time"]))


@lru_cache(maxsize=REMEMBERED)
def _history(path: Path, changed: int, size: int) -> History:
    try:
        return History.of(_reader(path).load())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # written by others
        return NOTHING


@lru_cache(maxsize=REMEMBERED)
def _reader(path: Path) -> EventReader:
    return EventReader(path)


def events_of_job(folder: Path) -> Sequence[Mapping[str, Any]]:
    """All events of a job in their order; none where there are none or they are damaged."""
    try:
        return _reader(folder / EVENTS).load()
    except (OSError, ValueError):
        return []


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 32_000))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""

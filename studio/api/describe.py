"""From jobs to what is shown of them: numbers, addresses, what can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orthodiff.training.events.requests import pending_requests

from ..services.adapters import BEST
from ..services.jobs.folders import OUTPUT
from ..services.jobs.job import RESUMABLE, TRAININGS, Job
from ..services.jobs.progress import Progress, history_of_job, read_batch, read_progress, stage_of
from ..services.sampling.plan import Album
from .schemas import Abilities, Image, JobOut

MOST_SHOWN = 48
"""Images of a batch that the page shows; the zip has all."""
SMALL = 320
"""Pixels of a thumbnail's longer side."""


def job_out(job: Job, *, place: int | None = None) -> JobOut:
    """A job as it stands: from its folder while it runs, from its row when it has ended."""
    progress = _progress(job)
    request = job.request
    return JobOut(
        id=job.id,
        kind=job.kind,
        name=job.name,
        status=job.status,
        created=job.created,
        started=job.started,
        ended=job.ended,
        step=progress.step,
        total_steps=progress.total or _total(job),
        loss=progress.loss if job.kind in TRAININGS else None,
        eta_seconds=progress.eta if job.status == "running" else None,
        seconds_per_step=progress.seconds_per_step,
        seconds=progress.seconds or _seconds(job),
        error=job.error,
        wish=job.wish,
        stage=stage_of(job),
        asked=list(pending_requests(job.folder)) if _trains(job) else [],
        method=str(request.get("method") or ""),
        base=str(request.get("base") or ""),
        prompt=str(request.get("prompt") or ""),
        subject_similarity=progress.subject_similarity,
        prompt_similarity=progress.prompt_similarity,
        subject_similarities=dict(progress.subject_similarities),
        best_step=progress.best_step,
        thumbnail=_thumbnail(job),
        place_in_queue=place,
        trashed=job.trashed is not None,
        can=_abilities(job),
    )


def curves(job: Job) -> dict[str, Any]:
    """Loss raw and as validated, scores per checkpoint with the recommended one, samples."""
    history = history_of_job(job.folder)
    ending = history.end or {}
    steps = _thin(history.steps, 600)
    return {
        "steps": [[e["step"], e["loss"]] for e in steps if "loss" in e],
        "validation": [[e["step"], e["loss"]] for e in history.scores if e.get("loss") is not None],
        "scores": [_score(e, ending.get("best_step")) for e in history.scores],
        "best_step": ending.get("best_step"),
        "best_reason": str(ending.get("best_reason") or ""),
        "samples": [_sample(job, e) for e in history.samples],
        "parameters": history.started.get("parameters"),
        "total_steps": history.started.get("steps"),
    }


def album(job: Job) -> list[Image]:
    """The images that a job has made by now; of a batch the first ones."""
    if job.kind == "batch":
        return [_batch_image(job, record) for record in read_batch(job.folder)[:MOST_SHOWN]]
    return [
        Image(
            url=file_url(job, image.file),
            thumbnail=file_url(job, image.file, small=True),
            label=image.label,
            prompt=image.prompt,
            seed=image.seed,
            map=file_url(job, image.map) if image.map else "",
            overlay=file_url(job, image.overlay) if image.overlay else "",
            column=image.column,
        )
        for image in Album.load(job.folder).images
    ]


def _batch_image(job: Job, record: Mapping[str, Any]) -> Image:
    name = f"{OUTPUT}/{record['file']}"
    row: Mapping[str, Any] = record.get("row") or {}
    adapters = [_run_name(Path(one)) for one in row.get("adapter", ())]
    return Image(
        url=file_url(job, name),
        thumbnail=file_url(job, name, small=True),
        label=" + ".join(adapters) or "Base",
        prompt=str(row.get("prompt", "")),
        seed=int(row.get("seed", 0)),
    )


def _run_name(weights: Path) -> str:
    """The run whose folder, best weights or checkpoint this is."""
    inner = weights.name == BEST or weights.name.startswith("checkpoint-")
    return weights.parent.name if inner else weights.name


def file_url(job: Job, name: str, *, small: bool = False) -> str:
    """Where a file of a job is served."""
    return f"api/jobs/{job.id}/files/{quote(name)}" + (f"?size={SMALL}" if small else "")


def _progress(job: Job) -> Progress:
    if job.status == "running":
        return read_progress(job.folder, since=job.started)
    known = {name: job.summary[name] for name in vars(Progress()) if name in job.summary}
    return Progress(**known)


def _total(job: Job) -> int:
    """Steps of a training, images of a batch, as they were asked for."""
    name = "images" if job.kind == "batch" else "max_train_steps"
    return int(job.request.get(name) or 0)


def _seconds(job: Job) -> float | None:
    return job.ended - job.started if job.started and job.ended else None


def _thumbnail(job: Job) -> str | None:
    """An image that says what the job is about."""
    if job.kind == "generate":
        images = Album.load(job.folder).images if job.status == "succeeded" else []
        return file_url(job, images[-1].file, small=True) if images else None
    name = _first_file(job.folder)
    return file_url(job, name, small=True) if name else None


def _first_file(folder: Path) -> str | None:
    for name in ("grid.png", "out/contact_sheet.png", "photos/00.png", "photos/00.jpg"):
        if (folder / name).is_file():
            return name
    return None


def _abilities(job: Job) -> Abilities:
    ended = not job.is_active
    training = job.kind in TRAININGS
    runs_on = job.status == "running" and not job.wish
    return Abilities(
        cancel=job.is_active,
        pause=runs_on and training,
        sample=runs_on and training and job.request.get("validation_prompts") != [],
        save=runs_on and training,
        stop_after=runs_on and job.kind == "batch",
        resume=job.status in RESUMABLE and job.kind != "generate" and not job.trashed,
        delete=ended and not job.trashed,
        move=job.status == "queued",
        use=job.status == "succeeded" and training and not job.trashed,
    )


def _trains(job: Job) -> bool:
    return job.kind in TRAININGS and job.status == "running"


def _score(event: Mapping[str, Any], best: int | None) -> dict[str, Any]:
    return {
        "step": event["step"],
        "subject": event.get("subject_similarity"),
        "prompt": event.get("prompt_similarity"),
        "loss": event.get("loss"),
        "recommended": event["step"] == best,
    }


def _sample(job: Job, event: Mapping[str, Any]) -> dict[str, Any]:
    paths = [str(path) for path in event.get("paths", ())]
    return {
        "step": event["step"],
        "prompts": list(event.get("prompts", ())),
        "images": [file_url(job, path, small=True) for path in paths],
        "originals": [file_url(job, path) for path in paths],
    }


def _thin(events: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, the last one among them."""
    stride = max(1, -(-len(events) // most))
    return [*events[:-1:stride], *events[-1:]]

"""How long a training takes and what it needs, as far as this computer has shown."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from .jobs.store import JobStore, Query
from .kinds.base import base_title
from .settings.presets import advise, preset_family
from .settings.subject import SubjectSettings

LOOKED_AT = 200
MEMORY = {"demo": "under 2 GB", "sd": "about 7 GB", "sdxl": "about 14 GB"}
"""Estimates of the recipes in `configs/`, in half precision on a GPU."""


@dataclass(frozen=True)
class Estimate:
    """What a training will do; `seconds` is None where nothing alike was measured here."""

    steps: int
    learning_rate: float
    batch: int
    resolution: int
    seconds: float | None
    memory: str
    is_measured: bool = False

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Names and values to show, without the time."""
        return [
            ("Steps", f"{self.steps:,}"),
            ("Batch", str(self.batch)),
            ("Learning rate", f"{self.learning_rate:g}"),
            ("Resolution (pixels)", str(self.resolution)),
            ("Memory, measured here" if self.is_measured else "Memory", self.memory),
        ]


def estimate(store: JobStore, settings: SubjectSettings, base: str) -> Estimate:
    """The figures of a training to be, timed by trainings of the same base and method here."""
    advice = advise(base, settings.method, settings.preset)
    steps = settings.max_train_steps or advice.max_train_steps
    batch = settings.train_batch_size or advice.train_batch_size
    pace = _seconds_per_image(store, base_title(base), settings.method)
    memory = _measured_memory(store, base_title(base))
    return Estimate(
        steps=steps,
        learning_rate=settings.learning_rate or advice.learning_rate,
        batch=batch,
        resolution=settings.resolution or advice.resolution,
        seconds=None if pace is None else pace * batch * steps,
        memory=memory or MEMORY[preset_family(base)],
        is_measured=bool(memory),
    )


def _seconds_per_image(store: JobStore, title: str, method: str) -> float | None:
    """All that a run takes from its start to its end, over the images it has seen."""
    paces = []
    for job in _alike(store, title):
        seen = int(job.request.get("train_batch_size") or 0) * int(job.summary.get("step") or 0)
        is_whole = job.started and job.ended and job.attempt == 1
        if job.request.get("method") == method and seen and is_whole:
            paces.append((float(job.ended or 0) - float(job.started or 0)) / seen)
    return statistics.median(paces) if paces else None


def _measured_memory(store: JobStore, title: str) -> str:
    peaks = [int(job.summary.get("peak_memory") or 0) for job in _alike(store, title)]
    return f"{max(peaks) / 1e9:.1f} GB" if any(peaks) else ""


def _alike(store: JobStore, title: str) -> list:
    query = Query(kinds=("dreambooth",), statuses=("succeeded",))
    jobs = store.list(query, limit=LOOKED_AT)
    return [job for job in jobs if job.request.get("base") == title]

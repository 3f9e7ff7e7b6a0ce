"""The adapters a user can use: finished trainings, imported folders, and those that come along."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from orthodiff import control
from orthodiff.adapters.peft_format.read import read_adapter_metadata
from orthodiff.control import is_control
from orthodiff.errors import UserError
from orthodiff.training.checkpoints.sealed import list_checkpoints, step_of

from .jobs.job import JOB_ID, Job
from .jobs.store import JobStore, Query

KINDS = ("dreambooth", "control", "imported")
ADAPTER, BEST = "adapter_config.json", "best"
SHIPPED = re.compile(r"shipped:[a-z0-9-]{1,60}")


@dataclass(frozen=True)
class AdapterEntry:
    """One adapter: `id` of its job or `shipped:NAME`, its folder, and its recipe."""

    id: str
    name: str
    folder: Path
    is_control: bool
    recipe: Mapping[str, str] = field(default_factory=dict)
    job: Job | None = None

    @property
    def trigger(self) -> str:
        """The word that stands for the subject in prompts: that of the training prompt."""
        request = self.job.request if self.job else {}
        if request.get("trigger") and request.get("class_word"):
            return f"{request['trigger']} {request['class_word']}"
        prompt = self.recipe.get("instance_prompt", "")
        return prompt.removeprefix("a photo of ").strip()

    @property
    def checkpoints(self) -> list[str]:
        """What can be chosen: recommended, last, and the steps that are kept."""
        steps = sorted(step for path in list_checkpoints(self.folder) if (step := step_of(path)))
        return ["recommended", "last", *map(str, steps)]

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    @property
    def condition(self) -> str:
        """The kind of control images that it follows."""
        if not self.is_control:
            return ""
        try:
            return str(control.read_config(self.folder)["condition"].name)
        except (UserError, KeyError):
            return ""

    def weights(self, checkpoint: str = "recommended") -> Path:
        """The folder with the weights of a checkpoint; the best one unless another is asked for.

        Raises:
            UserError: this checkpoint is not kept.
        """
        if checkpoint == "recommended":
            best = self.folder / BEST
            return best if _has_adapter(best) else self.folder
        if checkpoint == "last":
            return self.folder
        for path in list_checkpoints(self.folder):
            if str(step_of(path)) == checkpoint:
                return path
        available = ", ".join(self.checkpoints)
        raise UserError(f"`{self.name}` has no checkpoint {checkpoint}. It has {available}.")


class Adapters:
    """All adapters, per user."""

    def __init__(self, store: JobStore, shipped: Sequence[Path]) -> None:
        self.store, self.shipped = store, shipped

    def list(self, owner: str, *, control: bool | None = None) -> list[AdapterEntry]:
        """The adapters of a user, the newest first; with `control` only those that do or do not."""
        return [
            entry for entry in self._all(owner) if control is None or entry.is_control == control
        ]

    def get(self, owner: str, adapter_id: str) -> AdapterEntry:
        """One adapter by its id, or by the name of its training.

        Raises:
            UserError: this user has no such adapter.
        """
        job = self.store.get(adapter_id) if JOB_ID.fullmatch(adapter_id) else None
        if job and job.owner == owner and _is_adapter(job):
            return _entry(job.id, job.name, job.folder, job)
        for entry in self._all(owner):
            if adapter_id in (entry.id, entry.name):
                return entry
        raise UserError("There is no such adapter. Choose one from the list.")

    def _all(self, owner: str) -> Iterator[AdapterEntry]:
        query = Query(owner=owner, kinds=KINDS, statuses=("succeeded",))
        for job in self.store.list(query):
            if _has_adapter(job.folder):
                yield _entry(job.id, job.name, job.folder, job)
        for folder in self.shipped:
            yield _entry(f"shipped:{folder.name}", folder.name, folder, None)


def _entry(adapter_id: str, name: str, folder: Path, job: Job | None) -> AdapterEntry:
    config = folder / ADAPTER if (folder / ADAPTER).is_file() else folder / control.CONFIG
    recipe = _recipe(folder, config.stat().st_mtime_ns)
    if job and job.kind == "imported":  # its base by the name that it has here
        recipe = {**recipe, "base": str(job.request.get("base", ""))}
    return AdapterEntry(adapter_id, name, folder, is_control(folder), recipe, job)


@lru_cache(maxsize=2048)
def _recipe(folder: Path, changed: int) -> dict[str, Any]:
    try:
        if is_control(folder):
            return dict(control.read_metadata(folder))
        return dict(read_adapter_metadata(folder))
    except UserError:
        return {}


def _is_adapter(job: Job) -> bool:
    """Whether a job is a training whose result can be used."""
    whole = job.status == "succeeded" and job.kind in KINDS and job.trashed is None
    return whole and _has_adapter(job.folder)


def _has_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_file() or (folder / control.CONFIG).is_file()

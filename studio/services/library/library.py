"""Adapters that no training here has made: brought by people, or combined of two."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.adapters.peft_format.method_format import CONFIG
from orthodiff.adapters.peft_format.read import read_adapter_config, read_adapter_metadata
from orthodiff.control import is_control
from orthodiff.control import read_metadata as read_control
from orthodiff.errors import UserError

from ..adapters import AdapterEntry
from ..command import run_command
from ..jobs.folders import RunFolders
from ..jobs.job import Job, new_id
from ..jobs.store import JobStore, Query
from ..kinds.base import base_title
from ..kinds.images import base_of
from ..settings.base import FieldError
from .fit import check_adapter
from .unpack import unpack

MOST_ADAPTERS = 50


@dataclass(frozen=True)
class Library:
    """Adapters of people under `root`, each a row of `store` that no executor ever runs."""

    store: JobStore
    root: Path
    bases: Sequence[str]

    def bring(self, owner: str, files: Sequence[tuple[str, Path]]) -> Job:
        """Take in an adapter of ours or of PEFT: files `(name, path)`, or a zip of them.

        Raises:
            UserError: it is no adapter, or it fits none of the bases; nothing is kept.
        """

        def fill(folder: Path) -> tuple[str, str]:
            name = unpack(files, folder)
            try:
                base = self._fitting(folder)
                return name or _method(folder) or "imported", base
            except UserError as error:
                raise UserError(_plain(str(error), folder)) from error

        return self._add(owner, fill, source="imported")

    def combine(
        self, owner: str, entries: Sequence[AdapterEntry], *, blend: float | None, name: str
    ) -> Job:
        """Keep two adapters as one: one after the other, or with `blend` on the way between them.

        Raises:
            UserError: they are of different bases, or cannot be combined.
        """
        first, second = entries
        bases = {base_of(self.bases, entry.recipe.get("base", "")) for entry in entries}
        base = next(iter(bases))
        if len(bases) != 1 or base is None:
            raise FieldError("adapters", "These adapters are not of one base that is offered here.")

        def fill(folder: Path) -> tuple[str, str]:
            place = folder / "new"
            pair = ["--adapters", str(first.weights()), str(second.weights())]
            words = [*pair, f"--output={place}"]
            share = [] if blend is None else [f"--blend={blend}"]
            base_word = f"--pretrained_model_name_or_path={base}"
            try:
                run_command(["compose", *words, *share, base_word], failed="That did not work.")
            except UserError as error:
                raise UserError(_named(str(error), entries)) from error
            for path in list(place.iterdir()):
                shutil.move(path, folder / path.name)
            place.rmdir()
            return name or f"{first.name}-{second.name}", base

        return self._add(owner, fill, source=f"{first.name} + {second.name}")

    def _add(self, owner: str, fill: Callable[[Path], tuple[str, str]], *, source: str) -> Job:
        if self.store.count(Query(owner=owner, kinds=("imported",))) >= MOST_ADAPTERS:
            raise UserError(f"You have {MOST_ADAPTERS} imported adapters. Delete some first.")
        job_id, folders = new_id(), RunFolders(self.root)
        with folders.creating(self.root / job_id) as new:
            name, base = fill(new)
            method = _method(new)
        now = time.time()
        job = Job(
            id=job_id, kind="imported", owner=owner, name=self._free(owner, name, folders),
            status="succeeded", folder=self.root / job_id, created=now, started=now, ended=now,
            request=_request(base, method, source),
        )  # fmt: skip
        return self.store.add(job)

    def _free(self, owner: str, name: str, folders: RunFolders) -> str:
        taken = {job.name for job in self.store.list(Query(owner=owner))}
        stem = folders.free_name(name)
        number, free = 1, stem
        while free in taken:
            number += 1
            free = f"{stem}-{number}"
        return free

    def _fitting(self, folder: Path) -> str:
        """The base that the adapter was made for, or else the first that it fits."""
        named = base_of(self.bases, _base(folder))
        for base in [named] if named else self.bases:
            try:
                check_adapter(base, folder)
                return base
            except UserError as error:
                problem = str(error)
        titles = ", ".join(base_title(base) for base in ([named] if named else self.bases))
        raise UserError(f"The adapter does not fit {titles}: {problem}")


def _request(base: str, method: str, source: str) -> dict[str, Any]:
    return {"base": base_title(base), "method": method, "source": source, "imported": True}


def _base(folder: Path) -> str:
    if (folder / CONFIG).is_file():
        config = read_adapter_config(folder)
        own = read_adapter_metadata(folder).get("base", "")
        return str(config.get("base_model_name_or_path") or own)
    return str(read_control(folder).get("base", "")) if is_control(folder) else ""


def _method(folder: Path) -> str:
    if not (folder / CONFIG).is_file():
        return ""
    own = read_adapter_metadata(folder).get("orthodiff.method", "")
    return own or str(read_adapter_config(folder)["peft_type"]).removeprefix("ORTHODIFF_").lower()


def _plain(sentence: str, folder: Path) -> str:
    return sentence.replace(f"{folder}/", "").replace(str(folder), "it")


def _named(sentence: str, entries: Sequence[AdapterEntry]) -> str:
    for entry in entries:
        sentence = sentence.replace(str(entry.weights()), entry.name)
    return sentence

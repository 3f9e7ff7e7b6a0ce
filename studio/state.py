"""The studio behind page and API: what there is to work with, and what can be asked of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from sqlalchemy import Engine

from orthodiff.control import CONFIG, read_metadata
from orthodiff.errors import UserError

from .services.adapters import Adapters
from .services.jobs.executor import Executor
from .services.jobs.folders import RunFolders
from .services.jobs.job import Job, Kind
from .services.jobs.local import ROOT, LocalExecutor
from .services.jobs.ray import RayCluster, RayExecutor
from .services.jobs.service import JobService
from .services.jobs.store import JobStore
from .services.jobs.tables import open_database, sqlite_url
from .services.kinds.base import Offer, base_title
from .services.kinds.control import preview
from .services.kinds.images import base_of, prepare_images
from .services.kinds.prepare import prepare, prepare_duplicate
from .services.library.library import Library
from .services.measure import measure_training
from .services.photos import ExampleSubject, check_photos, read_examples
from .services.sampling.executor import SamplingExecutor
from .services.settings.base import read_settings
from .services.settings.images import ImageSettings
from .services.settings.presets import sampling_advice
from .services.uploads.subjects import PhotoSet, Subjects

PRIVATE, LOOKED_AT = 0o700, 50
PLACES = ("subjects", "images", "adapters", "tickets", "thumbnails")
PASSING = ("cache", "exports", "scratch")


@dataclass
class Studio:
    """Everything that page and API share."""

    data: Path
    bases: tuple[str, ...]
    engine: Engine
    jobs: JobService
    subjects: Subjects
    adapters: Adapters
    examples: Mapping[str, ExampleSubject]
    lock: IO[str]

    @classmethod
    def open(
        cls,
        *,
        bases: Sequence[str],
        data: Path,
        runs: Path,
        database: str | None = None,
        adopter: str = "local",
        warm: bool = False,
        cluster: RayCluster | None = None,
    ) -> Studio:
        """A studio over its folders, at work; `warm` gets workers ready before there are jobs.

        Trainings, batches and evaluations run on the `cluster` where there is one, else here.

        Raises:
            UserError: another studio uses the same data, or a folder or the database cannot be
                opened.
        """
        data = data.expanduser().resolve()
        lock = _claim(data)
        for name in PASSING:  # whatever a crash has left there
            shutil.rmtree(data / name, ignore_errors=True)
        for name in (*PLACES, *PASSING):
            (data / name).mkdir(mode=PRIVATE, exist_ok=True)
        engine = open_database(database or sqlite_url(data / "studio.db"))
        store = JobStore(engine)
        sampling = SamplingExecutor(warm=warm)
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        tickets = data / "tickets"
        local = LocalExecutor(tickets, gpus=gpus, warm=warm)
        executors: dict[str, Executor] = {
            "training": RayExecutor(tickets, cluster) if cluster else local,
            "images": sampling,
        }
        jobs = JobService(
            store, executors, runs=RunFolders(runs), results=data / "images", adopter=adopter
        )
        sampling.on_done = jobs.scheduler.wake
        subjects = Subjects(data / "subjects")
        subjects.clear_old()
        shipped = [p.parent for p in sorted((ROOT / "assets").glob(f"*/{CONFIG}"))]
        fitting = [f for f in shipped if base_of(bases, read_metadata(f).get("base", ""))]
        studio = cls(
            data=data,
            bases=tuple(bases),
            engine=engine,
            jobs=jobs,
            subjects=subjects,
            adapters=Adapters(store, fitting),
            examples=read_examples(ROOT / "assets" / "subjects"),
            lock=lock,
        )
        jobs.open()
        return studio

    def close(self) -> None:
        """Let go of everything; trainings go on by themselves."""
        self.jobs.close()
        self.engine.dispose()
        self.lock.close()

    @property
    def offer(self) -> Offer:
        """What jobs can be made from."""
        return Offer(self.bases, self.examples, self.subjects, self.adapters)

    @property
    def library(self) -> Library:
        """Adapters that people bring or combine."""
        return Library(self.jobs.store, self.data / "adapters", self.bases)

    @property
    def thumbnails(self) -> Path:
        return self.data / "thumbnails"

    @property
    def exports(self) -> Path:
        return self.data / "exports"

    @property
    def scratch(self) -> Path:
        return self.data / "scratch"

    def submit(
        self, owner: str, kind: Kind, config: Mapping[str, Any], *, subject: str | None, name: str
    ) -> Job:
        """Check and queue a job.

        Raises:
            UserError: the first thing that cannot be as it is; nothing has been written.
        """
        prepared = prepare(self.offer, owner, kind, config, subject=subject)
        return self.jobs.submit(owner, kind, prepared, name=name)

    def measure_training(
        self,
        owner: str,
        config: Mapping[str, Any],
        *,
        subject: str | None,
        kind: Literal["dreambooth", "control"] = "dreambooth",
    ) -> list[tuple[str, str]]:
        """What a training would take, measured on its first steps.

        Raises:
            UserError: the first thing that cannot be as it is.
        """
        prepared = prepare(self.offer, owner, kind, config, subject=subject)
        return measure_training(prepared, self.scratch)

    def control_preview(
        self, owner: str, subject: str, file: str, condition: str, *, side: int = 640
    ) -> bytes:
        """The control image of a photo of an upload, as a training would see it: a PNG.

        Raises:
            UserError: no such photo or kind, or one that cannot be computed here.
        """
        photos = self.subjects.get(owner, subject)
        for path, control in zip(photos.paths, photos.controls, strict=True):
            if path.name == file:
                return preview(path, control, condition, side=side)
        raise UserError("This photo is not here any more.")

    def generate(
        self,
        owner: str,
        config: Mapping[str, Any],
        *,
        control: str | None = None,
        control_images: Sequence[Path] = (),
    ) -> Job:
        """Check and queue images; `control` is the id of an upload with control images.

        Raises:
            UserError: the first thing that cannot be as it is; nothing has been written.
        """
        control_images = self.subjects.get(owner, control).paths if control else control_images
        settings = read_settings(ImageSettings, config)
        prepared = prepare_images(self.offer, owner, settings, control_images)
        return self.jobs.submit(owner, "generate", prepared)

    def duplicate(
        self, owner: str, job_id: str, changes: Mapping[str, Any], *, name: str = ""
    ) -> Job:
        """Queue a job anew, on a copy of the same images, with changed settings.

        Raises:
            UserError: it was not made here, or a change cannot be.
        """
        job = self.jobs.get(owner, job_id)
        prepared = prepare_duplicate(self.offer, job, changes)
        return self.jobs.submit(owner, job.kind, prepared, name=name)

    def check_photos(self, photo_set: PhotoSet) -> tuple[dict[str, str], list[str]]:
        """Problems by file, and advice, as `check` gives them for the first base.

        Only the first of many photos are looked at, as somebody waits; the trainer looks at all.
        """
        resolution = sampling_advice(self.bases[0]).resolution
        names = {photo.file: photo.name for photo in photo_set.photos[:LOOKED_AT]}
        return check_photos(photo_set.folder, names, resolution=resolution)

    def base_choices(self) -> list[tuple[str, str]]:
        """Titles and names of the bases, for a list to choose from."""
        return [(base_title(name), name) for name in self.bases]

    def base_title(self, name: str) -> str:
        """What a base is called."""
        return base_title(name) if name else ""

    def without_paths(self, text: str, job: Job) -> str:
        """A text that a command wrote, without the folders of this computer."""
        for folder, word in (
            (job.folder, job.name), (self.jobs.runs.root, "runs"), (self.data, "data"),
            (ROOT, "."), (Path.home(), "~"),
        ):  # fmt: skip
            text = text.replace(str(folder), word)
        return text


def _claim(data: Path) -> IO[str]:
    """The folder for this studio alone; the lock dies with the process.

    Raises:
        UserError: another one has it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        os.chmod(data, PRIVATE)
        lock = (data / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"The data folder `{data}` cannot be used ({error.strerror}). Choose another --data."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(
            f"Another studio is running on `{data}`. Use that one, or choose another --data."
        ) from error
    return lock

"""The runs folder: one sub-folder per run, and nothing about a run is kept anywhere else."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from orthodiff.control import is_control
from orthodiff.errors import UserError
from orthodiff.training.tasks.dreambooth import DreamBoothConfig

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
PHOTOS, REQUEST, RECORD, LOG = "photos", "request.yaml", "job.json", "log.txt"
EVENTS, ADAPTER, EXIT_CODE, STOP = "events.jsonl", "adapter_config.json", "exit_code", "stop"


@dataclass(frozen=True)
class Record:
    """The process of a run: its id, and the unix time at which it was known to exist."""

    pid: int
    seen: float


class RunStore:
    """Runs by name under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """The folder of an existing run.

        Raises:
            UserError: the name is none that a run can have, or there is no such run.
        """
        check_name(name)
        folder = self.root / name
        if not _is_run(folder):
            raise UserError(f"There is no run called `{name}`. Choose one from the list.")
        return folder

    def names(self) -> list[str]:
        """All runs, newest first."""
        found = self.root.iterdir() if self.root.is_dir() else []
        runs = [path for path in found if NAME.fullmatch(path.name) and _is_run(path)]
        return [path.name for path in sorted(runs, key=_age)]

    def finished(self, *, control: bool = False) -> list[str]:
        """The runs that have an adapter, which follows maps or does not, newest first."""
        folders = [self.root / name for name in self.names()]
        if control:
            return [folder.name for folder in folders if is_control(folder)]
        adapters = [folder for folder in folders if (folder / ADAPTER).is_file()]
        return [folder.name for folder in adapters if not is_control(folder)]

    def free_name(self, wish: str) -> str:
        """`wish` as a valid name that is not taken: `robot-hra`, then `robot-hra-2`, ..."""
        stem = re.sub(r"[^a-z0-9_]+", "-", wish.lower()).strip("-_")[:50] or "run"
        number, name = 1, stem
        while (self.root / name).exists():
            number += 1
            name = f"{stem}-{number}"
        return name

    def claim(self, name: str) -> Path:
        """The folder of a run to be.

        Raises:
            UserError: the name is none that a run can have, or it is taken.
        """
        check_name(name)
        folder = self.root / name
        if folder.exists():
            raise UserError(
                f"A run called `{name}` exists already. Choose another name, or leave it empty."
            )
        return folder

    def create(
        self, folder: Path, *, photos: Sequence[Image.Image], config: DreamBoothConfig
    ) -> None:
        """Make the run's folder with its photos and its request: whole, or not at all.

        Raises:
            UserError: the runs folder cannot be written, or the name was taken meanwhile.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".new-") as scratch:
                new = Path(scratch) / "run"
                (new / PHOTOS).mkdir(parents=True)
                for number, photo in enumerate(photos):
                    photo.save(new / PHOTOS / f"{number:02d}.png")
                (new / REQUEST).write_text(config.to_yaml(), "utf-8")
                new.rename(folder)
        except OSError as error:
            raise UserError(
                f"The run `{folder.name}` cannot be written ({error.strerror}). "
                "Choose another name, or see that the disk has room."
            ) from error

    def discard(self, folder: Path) -> None:
        """Remove a run that never started."""
        shutil.rmtree(folder, ignore_errors=True)


def check_name(name: str) -> None:
    """Refuse everything that could be more than a plain folder name.

    Raises:
        UserError: the name has other signs than small letters, digits, `-` and `_`.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"`{name}` cannot be the name of a run. Use small letters, digits, - and _, at most "
            "60 of them, beginning with a letter or a digit."
        )


def write_record(folder: Path, pid: int) -> None:
    """Note which process works on the run; replaced in one step."""
    aside = folder / f".{RECORD}"
    aside.write_text(json.dumps({"pid": pid, "seen": time.time()}), "utf-8")
    aside.replace(folder / RECORD)


def read_record(folder: Path) -> Record | None:
    """The process noted last, or None for a run that was started elsewhere."""
    try:
        return Record(**json.loads((folder / RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file() or (folder / EVENTS).is_file()


def _age(folder: Path) -> float:
    """Sorts the newest first, by when the run was asked for."""
    for name in (REQUEST, "config.yaml", EVENTS):
        if (folder / name).is_file():
            return -(folder / name).stat().st_mtime
    return 0.0

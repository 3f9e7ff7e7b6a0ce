"""The runs folder: one sub-folder per run, which stays the truth about its content."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from orthodiff.errors import UserError

from .progress import EVENTS

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
PHOTOS, REQUEST, OUTPUT = "photos", "request.yaml", "out"


class RunFolders:
    """Run folders by name under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def existing(self, known: Container[str] = ()) -> list[Path]:
        """The folders of runs, however they were started, without those `known`; oldest first."""
        entries = self.root.iterdir() if self.root.is_dir() else []
        new = (path for path in entries if str(path) not in known)
        runs = [path for path in new if NAME.fullmatch(path.name) and has_events(path)]
        return sorted(runs, key=lambda path: (path / EVENTS).stat().st_mtime)

    def free_name(self, proposal: str) -> str:
        """`proposal` as a valid name that is not taken: `robot-hra`, then `robot-hra-2`, ..."""
        stem = re.sub(r"[^a-z0-9_]+", "-", proposal.lower()).strip("-_")[:50] or "run"
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

    @contextmanager
    def creating(self, folder: Path) -> Iterator[Path]:
        """A folder to fill that takes its place whole when the block ends well, or not at all.

        Raises:
            UserError: the runs folder cannot be written, or the name was taken meanwhile.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".new-") as scratch:
                new = Path(scratch) / "run"
                new.mkdir(mode=0o700)
                yield new
                new.rename(folder)
        except OSError as error:
            raise UserError(
                f"The run `{folder.name}` cannot be written ({error.strerror}). "
                "Choose another name, or see that the disk has room."
            ) from error


def has_events(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / EVENTS).is_file()


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


def discard(folder: Path) -> None:
    """Remove a folder that nobody needs any more."""
    shutil.rmtree(folder, ignore_errors=True)

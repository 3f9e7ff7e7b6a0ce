"""Let a folder appear whole: write aside, sync, move."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthodiff.errors import UserError


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Lend an empty folder whose files move to `folder` if the block ends well.

    A new folder appears complete or not at all. In an existing one each file is replaced in one
    step, weights before the configurations that announce them, and other files stay.

    Raises:
        UserError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, but an adapter is a folder. Choose another name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "adapter"
        new.mkdir()
        yield new
        files = sorted((p for p in new.rglob("*") if p.is_file()), key=_weights_first)
        for path in files:
            _sync(path)
        if not folder.exists():
            new.rename(folder)
            return
        for path in files:
            place = folder / path.relative_to(new)
            place.parent.mkdir(exist_ok=True)
            path.replace(place)


def _weights_first(path: Path) -> tuple[bool, int, str]:
    """Configurations last, and the folder's own after those of its subfolders."""
    return path.suffix == ".json", -len(path.parts), path.name


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Lend the name of a file or folder that takes the place of `path` if the block ends well.

    It appears in one step. A folder that was there before is removed after.

    Raises:
        UserError: the folder it should lie in cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be made ({error.strerror}). Choose another place."
        ) from None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        new = Path(scratch) / path.name
        yield new
        for file in [new] if new.is_file() else [p for p in new.rglob("*") if p.is_file()]:
            _sync(file)
        if path.is_dir():
            path.rename(Path(scratch) / "old")
        new.replace(path)

"""Files and folders that are whole or not there: written aside, forced to the disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE, BEFORE = ".aside", ".before"
"""What is being written lies in `.aside`, what it replaces in `.aside/NAME.before`."""


@contextmanager
def aside(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder on the disk of `parent`, gone after the block."""
    folder = parent / ASIDE / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        repair(parent)


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """An empty folder to fill. When the block ends well it takes the place of `place` in one step.

    If it does not end well nothing of it stays, and what was at `place` stays.
    """
    with aside(place.parent, place.name) as new:
        yield new
        sync_tree(new)
        if place.exists():
            place.rename(new.with_name(place.name + BEFORE))
        new.rename(place)
        sync(place.parent)


def remove(folder: Path) -> None:
    """Remove a folder so that no part of it is ever seen in its place."""
    gone = folder.parent / ASIDE / folder.name
    gone.parent.mkdir(exist_ok=True)
    folder.rename(gone)
    repair(folder.parent)


def repair(parent: Path) -> None:
    """Clear what was left aside in `parent`; what was only moved there comes back."""
    for moved in (parent / ASIDE).glob(f"*{BEFORE}"):
        place = parent / moved.name.removesuffix(BEFORE)
        if not place.exists():
            moved.rename(place)
    shutil.rmtree(parent / ASIDE, ignore_errors=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written."""
    new = path.with_name(f".{path.name}.partial")
    try:
        new.write_bytes(content)
        sync(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Force everything in a folder, and its folders themselves, to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

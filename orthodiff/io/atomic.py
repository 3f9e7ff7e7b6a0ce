"""Files and folders that are whole or not there: written aside, forced to the disk, renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orthodiff.errors import UserError

ASIDE, BEFORE = ".aside", ".before"
"""What is being written lies in `.aside/NAME`, what it replaces in `.aside/NAME.before`."""
_TRIES = 20


@contextmanager
def aside(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder on the disk of `parent`, gone after the block.

    Other processes may write other names into the same `parent`.
    """
    folder = parent / ASIDE / name
    recover(parent, name)
    try:
        _make(folder)
        yield folder
    finally:
        recover(parent, name)


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
    with aside(folder.parent, folder.name) as gone:
        folder.rename(gone)


def repair(parent: Path) -> None:
    """Settle every name in `parent`, where no other process may be writing."""
    for left in sorted((parent / ASIDE).glob("*")):
        recover(parent, left.name.removesuffix(BEFORE))
    _drop_empty(parent / ASIDE)


def recover(parent: Path, name: str) -> None:
    """Clear what was left aside under one name; what was only moved there comes back."""
    new, moved = parent / ASIDE / name, parent / ASIDE / (name + BEFORE)
    if os.path.lexists(moved) and not (parent / name).exists():
        moved.rename(parent / name)
    for left in (new, moved):
        _discard(left)
    _drop_empty(parent / ASIDE)


def _make(folder: Path) -> None:
    """Make a folder in `.aside`, which another process may be dropping at this moment."""
    for tries_left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True)
            return
        except (FileNotFoundError, FileExistsError):
            if not tries_left:
                raise


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _drop_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


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


def make_folder(folder: Path) -> None:
    """Make an output folder, and try that files can be put into it.

    Raises:
        UserError: it is a file or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(8)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"The output folder `{folder}` cannot be written ({error.strerror}). "
            "Choose another --output_dir."
        ) from error


def can_be_written(folder: Path) -> bool:
    """Whether files can be put into a folder, which may still have to be made."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK)


def share_file(path: Path, content: bytes) -> None:
    """Like `replace_file` for what several processes may write at once; not forced to the disk.

    In containers that share a folder even the process numbers can be the same.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


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

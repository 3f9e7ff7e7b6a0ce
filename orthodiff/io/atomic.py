"""Files and folders that are whole or not there: written aside, forced to the disk, renamed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orthodiff.errors import UserError, explain_os_error

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
            sync(path)
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
            sync(file)
        if path.is_dir():
            path.rename(Path(scratch) / "old")
        new.replace(path)


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


def check_writable(path: Path) -> None:
    """Refuse early a file or folder that could not be written; nothing stays behind.

    Raises:
        UserError: naming the reason.
    """
    there = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=f".{path.name}-"):
            pass
    except OSError as error:
        reason = explain_os_error(OSError(error.errno, error.strerror, str(path)))
        raise UserError(reason or f"`{path}` cannot be written. Choose another place.") from error


def can_be_written(folder: Path) -> bool:
    """Whether files can be put into a folder, which may still have to be made."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK)


def share_file(path: Path, content: bytes) -> None:
    """Like `replace_file` for what several processes may write at once; see `sharing`."""
    with sharing(path) as new:
        new.write_bytes(content)


@contextmanager
def sharing(path: Path) -> Iterator[Path]:
    """A place for a file's content, which takes its name at the end; not forced to the disk.

    In containers that share a folder even the process numbers can be the same.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield new
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
    on_windows = os.name == "nt"
    if on_windows and path.is_dir():  # it opens no folder, and keeps such lists itself
        return
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

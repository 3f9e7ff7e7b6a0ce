"""The output folder of a batch: images appear whole or not at all, nothing of others is lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orthodiff.batch.encode import EncodedImage
from orthodiff.batch.manifest import VERSION, Log, Manifest, fcntl
from orthodiff.batch.plan import Item
from orthodiff.errors import UserError
from orthodiff.io.atomic import sync

PARTIAL = ".partial-{}"
"""Where the process of that rank writes files before they are whole."""
INDEX = "index.html"
SHEETS = "contact_sheet*.png"
"""What is drawn anew from the manifest at the end."""


class Store:
    """A batch's folder while this process works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest(folder)
        self.partial = folder / PARTIAL.format(0)
        self.header: dict[str, Any] | None = None

    @contextmanager
    def opened(self, *, rank: int | None = None) -> Iterator[Log]:
        """The folder for this process alone, or for one rank of several; what it holds so far.

        Raises:
            UserError: it cannot be written, or another process is at work in it.
        """
        made = self._make()
        self.partial = self.folder / PARTIAL.format(rank or 0)
        locks = [_lock(self.folder, shared=rank is not None)]
        self.partial.mkdir(exist_ok=True)
        locks.append(_lock(self.partial, shared=False))
        try:
            yield self.manifest.load()
        finally:
            self._tidy(made)
            for lock in locks:
                if lock is not None:
                    os.close(lock)

    def _make(self) -> list[Path]:
        """Make the folder and try to write into it; the folders that were not there before."""
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        probe = self.folder / f".writable-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"The output folder `{self.folder}` cannot be written ({error.strerror}). "
                "Choose another --output_dir."
            ) from error
        return missing

    def _tidy(self, made: Sequence[Path]) -> None:
        """Leave no empty folder that was not there before."""
        with suppress(OSError):
            self.partial.rmdir()
        for path in made:
            with suppress(OSError):
                path.rmdir()

    def begin(
        self, log: Log, header: Mapping[str, Any], items: Sequence[Item], ending: str
    ) -> None:
        """Go on with the batch that is there, or note which one begins with the next record.

        Raises:
            UserError: the folder holds another batch, or files in the place of images.
        """
        if log.batch is None:
            self._refuse_foreign(items, ending)
            for path in (self.folder / INDEX, *self.folder.glob(SHEETS)):
                if path.exists():
                    raise _foreign(path)
            self.header = {"kind": "batch", "version": VERSION, **header}
            return
        names = {item.id: item.name + ending for item in items}
        if any(names.get(r["id"]) != r["file"] for r in self.manifest.records(log.images)):
            raise UserError(
                f"`{self.folder}` holds another batch ({log.batch['batch']}, "
                f"{len(log.images)} images). Choose another --output_dir, or replace it with "
                "--overwrite."
            )
        if log.batch["batch"] != header["batch"]:
            new = [item for item in items if item.id not in log.images]
            self._refuse_foreign(new, ending)
            self.header = {"kind": "batch", "version": VERSION, **header}

    def _refuse_foreign(self, items: Sequence[Item], ending: str) -> None:
        """Raises UserError where something lies already."""
        for item in items:
            if os.path.lexists(self.folder / (item.name + ending)):
                raise _foreign(self.folder / (item.name + ending))

    def recover(self, log: Log) -> None:
        """Finish what a crash cut off; forget images that are gone, so that they are made again."""
        for record in self.manifest.records(log.images):
            for name, entry in {record["file"]: record, **record.get("also", {})}.items():
                place = self.folder / name
                if not (place.is_file() or self._finish(place, entry["sha256"])):
                    log.images.pop(record["id"], None)
        for path in self.partial.glob("*"):
            path.unlink(missing_ok=True)

    def _finish(self, place: Path, sha256: str) -> bool:
        """Whether a file that was recorded, but had no name yet, has it now."""
        for partial in self.folder.glob(f"{PARTIAL.format('*')}/{sha256}"):
            with suppress(OSError):
                if hashlib.sha256(partial.read_bytes()).hexdigest() == sha256:
                    self._appear(partial, place)
        return place.is_file()

    def save(self, item: Item, encoded: EncodedImage) -> dict[str, Any]:
        """Record an image and let it appear; the record.

        Raises:
            UserError: a file of others lies in its place.
            OSError: the disk is full or gone.
        """
        main, *others = [(item.name + ending, content) for ending, content in encoded.files.items()]
        entries = {name: self._write(content) for name, content in (main, *others)}
        record = {
            "kind": "image", "id": item.id, "index": item.index, "file": main[0],
            **entries[main[0]], **encoded.facts, "row": item.row.written(),
        }  # fmt: skip
        if others:
            record["also"] = {name: entries[name] for name, _ in others}
        for name in entries:
            if os.path.lexists(self.folder / name):
                raise _foreign(self.folder / name)
        self._append(record)
        for name, entry in reversed(entries.items()):
            self._appear(self.partial / entry["sha256"], self.folder / name)
        return record

    def fail(self, item: Item, sentence: str) -> dict[str, Any]:
        """Record that an image could not be made; the record."""
        record = {
            "kind": "failed", "id": item.id, "index": item.index, "error": sentence,
            "row": item.row.written(),
        }  # fmt: skip
        self._append(record)
        return record

    def write_header(self) -> None:
        """Say in the manifest which batch this is, if that is not said yet."""
        if self.header is not None:
            self.manifest.append(self.header)
            self.header = None

    def _append(self, record: Mapping[str, Any]) -> None:
        self.write_header()
        self.manifest.append(record)

    def _write(self, content: bytes) -> dict[str, Any]:
        """Put a file aside, forced to the disk; how it is recorded."""
        sha256 = hashlib.sha256(content).hexdigest()
        new = self.partial / sha256
        try:
            new.write_bytes(content)
            sync(new)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return {"sha256": sha256, "bytes": len(content)}

    def _appear(self, new: Path, place: Path) -> None:
        """Give a whole file its name; never in the place of another."""
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(new, place)
        except FileExistsError:
            if place.read_bytes() != new.read_bytes():  # else another rank finished our work
                raise _foreign(place) from None
        except OSError:
            if os.path.lexists(place) or not new.exists():
                raise
            new.rename(place)  # a file system without links
        new.unlink(missing_ok=True)

    def clear(self, log: Log) -> None:
        """Remove what the folder's batch made, and nothing else, for `--overwrite`."""
        for record in self.manifest.records(log.images):
            for name in (record["file"], *record.get("also", {})):
                (self.folder / name).unlink(missing_ok=True)
        for path in (self.folder / INDEX, *self.folder.glob(SHEETS)):
            path.unlink(missing_ok=True)
        self.manifest.path.unlink(missing_ok=True)


def _foreign(path: Path) -> UserError:
    return UserError(
        f"`{path}` is there already and not of this batch. Choose another --output_dir."
    )


def _lock(folder: Path, *, shared: bool) -> int | None:
    """Hold a folder until the descriptor is closed; several may share it.

    Raises:
        UserError: another process holds it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"Another process is making a batch in `{folder}`. Wait for it, or choose another "
            "--output_dir."
        ) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor

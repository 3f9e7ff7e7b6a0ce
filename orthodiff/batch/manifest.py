"""`manifest.jsonl`: the truth about a batch, one line for each thing that happened, only appended.

Its first line says which batch the folder holds. A line about an image stands there before the
image takes its name, so that after a crash every image is either known or not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from orthodiff.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system: one process writes, which needs no locks
    fcntl = None  # type: ignore[assignment]

NAME = "manifest.jsonl"
VERSION = 1


class Line(NamedTuple):
    """Where the last word on an image stands: `place` in the batch, byte `start` in the file."""

    place: int
    start: int


@dataclass
class Log:
    """What a manifest says: its batch, and for each id the line with the last word on it.

    Records stay on the disk, so that a batch of many thousands takes little memory.
    """

    batch: dict[str, Any] | None = None
    images: dict[str, Line] = field(default_factory=dict)
    failed: dict[str, Line] = field(default_factory=dict)

    def add(self, record: dict[str, Any], start: int) -> None:
        """Take in the line that begins at byte `start`."""
        kind, each = record["kind"], record.get("id", "")
        if kind == "batch":
            self.batch = record
        elif kind == "image":
            self.images[each] = Line(int(record["index"]), start)
            self.failed.pop(each, None)
        elif kind == "failed":
            self.failed[each] = Line(int(record["index"]), start)


class Manifest:
    """The file, for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def load(self) -> Log:
        """What it says; nothing if there is none.

        Raises:
            UserError: a line cannot be read. One cut off at the very end by a crash does not count.
        """
        log, start = Log(), 0
        for number, line in enumerate(self._lines(), start=1):
            try:
                log.add(json.loads(line), start)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"`{self.path}` line {number} is damaged. Remove that line: its image is then "
                    "made again."
                ) from error
            start += len(line)
        return log

    def _lines(self) -> Iterator[bytes]:
        """Its whole lines."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))

    def records(self, lines: Mapping[str, Line]) -> Iterator[dict[str, Any]]:
        """The records on some of its lines, one at a time, in the batch's order."""
        ordered = sorted(lines.values())
        if not ordered:
            return
        with self.path.open("rb") as file:
            for line in ordered:
                file.seek(line.start)
                yield json.loads(file.readline())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line, forced to the disk.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = _whole_size(descriptor)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def _whole_size(descriptor: int) -> int:
    """The size up to the last whole line; what a crash left behind it is cut off."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole

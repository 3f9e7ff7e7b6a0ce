"""Whether a place holds the same files as before, by names, lengths and times alone."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .readers.records import DataRequest

FRESH = 2_000_000_000
"""Nanoseconds in which a file system may give two versions of a file the same time."""
DEEPEST = 8


@dataclass(frozen=True)
class Fingerprint:
    """The sum over a place, and the time of its newest file in nanoseconds."""

    sum: str
    newest: int

    @property
    def is_settled(self) -> bool:
        """Whether a file changed from now on will have another time."""
        return time.time_ns() - self.newest > FRESH


def fingerprint_of(request: DataRequest) -> Fingerprint | None:
    """Of the folder (and of the masks) that a request leads to; None for a dataset of the hub."""
    place = request.folder or Path(request.dataset or "")
    if not place.is_dir():
        return None
    digest, newest = hashlib.sha256(), 0
    for folder in (place, request.mask_dir):
        if folder is not None:
            newest = max(newest, _walk(folder, digest, depth=0))
    return Fingerprint(digest.hexdigest(), newest)


def changed_at(status: os.stat_result) -> int:
    """When a file was last changed or replaced, in nanoseconds, even by one of an older time."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _walk(folder: Path | str, digest: hashlib._Hash, *, depth: int) -> int:
    """Add a folder to the digest; the time of the newest file in it."""
    newest = 0
    with os.scandir(folder) as entries:
        listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in listed:
        name = os.fsencode(entry.name)
        try:
            status = entry.stat()
            is_folder = entry.is_dir()
        except OSError:  # a link that leads nowhere
            digest.update(b"%b nowhere\n" % name)
            continue
        if not is_folder:
            changed = changed_at(status)
            digest.update(b"%b %d %d\n" % (name, status.st_size, changed))
            newest = max(newest, changed)
        elif depth < DEEPEST:
            digest.update(b"%b {\n" % name)
            newest = max(newest, _walk(entry.path, digest, depth=depth + 1))
            digest.update(b"}\n")
    return newest

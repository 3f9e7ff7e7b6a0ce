"""Hashes of files and of values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 1 << 22


def content_key(*parts: str | bytes) -> str:
    """A key from everything that decides a value; the parts cannot run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        # names of files may be bytes that are no UTF-8
        content = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()


def sha256_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, sorted by path."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()

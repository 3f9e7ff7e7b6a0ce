"""Files of a job or an upload: of its own folder only, by name, images also as thumbnails."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fastapi import HTTPException
from fastapi.responses import FileResponse
from PIL import Image

KINDS = {
    ".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".zip": "application/zip",
    ".safetensors": "application/octet-stream", ".json": "application/json",
    ".yaml": "text/plain; charset=utf-8", ".jsonl": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8", ".csv": "text/plain; charset=utf-8",
}  # fmt: skip
SHOWN = (".png", ".webp", ".jpg")
HIDDEN = ("ticket.json",)
SIZES = (160, 320, 640)


def serve_file(folder: Path, name: str, *, cache: Path, size: int | None = None) -> FileResponse:
    """A file inside a folder, perhaps as a thumbnail.

    Raises:
        HTTPException: 404 for whatever is no such file, whether it exists or not.
    """
    path = file_within(folder, name)
    suffix = path.suffix.lower() if path else ""
    if path is None or suffix not in KINDS or path.name in HIDDEN:
        raise HTTPException(404, "There is no such file.")
    if size is not None and suffix in SHOWN:
        path = _thumbnail(path, cache, min(SIZES, key=lambda known: abs(known - size)))
        suffix = path.suffix
    how = "inline" if suffix in SHOWN or suffix in (".txt", ".json", ".yaml") else "attachment"
    headers = {"cache-control": "private, max-age=3600"}
    return FileResponse(
        path,
        media_type=KINDS[suffix],
        filename=Path(name).name if how == "attachment" else None,
        content_disposition_type=how,
        headers=headers,
    )


def file_within(folder: Path, name: str) -> Path | None:
    """The file that `name` means within a folder; None for one outside, hidden, or no file."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        return None
    if "\x00" in name or "\\" in name:
        return None
    root = folder.resolve()
    path = (root / name).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def _thumbnail(path: Path, cache: Path, side: int) -> Path:
    """A small copy of an image of ours, made once."""
    status = path.stat()
    mark = f"{path}:{status.st_mtime_ns}:{status.st_size}:{side}"
    place = cache / f"{hashlib.sha256(mark.encode()).hexdigest()[:32]}.webp"
    if not place.is_file():
        with Image.open(path) as image:
            if max(image.size) <= side:
                return path
            small = image.convert("RGB")
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
        new = place.with_name(f".{place.name}.{os.getpid()}.{id(small)}")
        small.save(new, "WEBP", quality=82)
        new.replace(place)
    return place

"""Sends files to the decoder process and takes back what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError

from . import decoder

LIMITS = {
    "memory": 2048, "seconds": 400, "file_size": 64, "output": 2048,
    "entries": 2000, "entry": 50, "archive": 1024,
}  # fmt: skip
"""Of the decoder: MiB of memory, seconds of a CPU, MiB of a file it writes and of all; of an
archive: files, and MiB of each and of all, unpacked."""
PATIENCE = 600.0
SCRIPT = Path(decoder.__file__)


@dataclass(frozen=True)
class Decoded:
    """One file: its `name` as the person knows it, the clean `path` or why there is none.

    `text` is what a caption or a list of an archive says; such a one has no path. `upload` is the
    place of the file, or of its archive, among those that were sent.
    """

    name: str
    path: Path | None
    size: tuple[int, int] = (0, 0)
    error: str = ""
    recipe: str | None = None
    text: str | None = None
    upload: int = 0


def decode_into(folder: Path, files: Sequence[tuple[str, Path]]) -> list[Decoded]:
    """Decode files `(name, path)`, archives too, into `NN.png` and `NN.webp` in `folder`.

    Raises:
        UserError: the decoder itself cannot be started.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".decode-") as scratch:
        source, output = Path(scratch) / "in", Path(scratch) / "out"
        source.mkdir()
        output.mkdir()
        for number, (_, path) in enumerate(files):
            os.link(path, source / f"{number:04d}")
        _run(source, output)
        decoded, number = [], 0
        for entry in _report(output, len(files)):
            decoded.append(_take(entry, files, output / f"{number:02d}", folder))
            number += "width" in entry
    return decoded


def _run(source: Path, output: Path) -> None:
    try:
        subprocess.run(
            [sys.executable, "-I", str(SCRIPT), str(source), str(output), json.dumps(LIMITS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
            timeout=PATIENCE,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return  # what it managed is in its report
    except OSError as error:
        raise UserError(f"Images cannot be read at the moment ({error.strerror}).") from error


def _report(output: Path, count: int) -> list[dict[str, Any]]:
    """What the decoder wrote of each file, and an error for those that it did not get to."""
    entries: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):  # a last line that was cut off
        for line in (output / "report.jsonl").read_text("utf-8").splitlines():
            entries.append(json.loads(line))
    reached = {entry["file"] for entry in entries}
    missing = [{"file": n, "error": "its decoder gave up"} for n in range(count)]
    return [*entries, *(entry for entry in missing if entry["file"] not in reached)]


def _take(
    entry: dict[str, Any], files: Sequence[tuple[str, Path]], place: Path, folder: Path
) -> Decoded:
    """Move what was written for one image into its folder, under the next free number."""
    name = str(entry.get("name") or files[entry["file"]][0])
    if "text" in entry:
        return Decoded(name, None, text=str(entry["text"]), upload=entry["file"])
    if "width" not in entry or not place.with_suffix(".png").is_file():
        error = str(entry.get("error") or "it cannot be read")
        return Decoded(name, None, error=error, upload=entry["file"])
    number = next_number(folder)
    for suffix in (".png", ".webp"):
        shutil.move(place.with_suffix(suffix), folder / f"{number:02d}{suffix}")
    size = (int(entry["width"]), int(entry["height"]))
    recipe = entry.get("recipe")
    return Decoded(
        name,
        folder / f"{number:02d}.png",
        size,
        recipe=str(recipe) if recipe else None,
        upload=entry["file"],
    )


def next_number(folder: Path) -> int:
    """The number of the next image of a folder."""
    return max((int(path.stem) for path in folder.glob("[0-9]*.png")), default=-1) + 1

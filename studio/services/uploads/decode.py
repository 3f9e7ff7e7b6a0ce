"""Sends files to the decoder process and takes back what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orthodiff.errors import UserError

from . import decoder

LIMITS = {"memory": 2048, "seconds": 120, "file_size": 64}
PATIENCE = 150.0
SCRIPT = Path(decoder.__file__)


@dataclass(frozen=True)
class Decoded:
    """One file: its `name` as the person knows it, the clean `path` or why there is none."""

    name: str
    path: Path | None
    size: tuple[int, int] = (0, 0)
    error: str = ""
    recipe: str | None = None


def decode_into(folder: Path, files: Sequence[tuple[str, Path]]) -> list[Decoded]:
    """Decode files `(name, path)` into `NN.png` with thumbnails `NN.webp` in `folder`.

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
        entries = _report(output)
        decoded = []
        for number, (name, _) in enumerate(files):
            entry = entries[number] if number < len(entries) else {"error": "its decoder gave up"}
            decoded.append(_take(name, entry, output / f"{number:02d}", folder))
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


def _report(output: Path) -> list[dict[str, object]]:
    try:
        return list(json.loads((output / "report.json").read_text("utf-8")))
    except (OSError, ValueError):
        return []


def _take(name: str, entry: dict[str, object], place: Path, folder: Path) -> Decoded:
    """Move what was written for one file into its folder, under the next free number."""
    if "error" in entry or not place.with_suffix(".png").is_file():
        return Decoded(name, None, error=str(entry.get("error") or "it cannot be read"))
    number = len(list(folder.glob("[0-9][0-9].png")))
    for suffix in (".png", ".webp"):
        shutil.move(place.with_suffix(suffix), folder / f"{number:02d}{suffix}")
    size = (int(str(entry["width"])), int(str(entry["height"])))
    recipe = entry.get("recipe")
    return Decoded(name, folder / f"{number:02d}.png", size, recipe=str(recipe) if recipe else None)

"""Adapters as files for other tools, written by `orthodiff export` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

from orthodiff.errors import UserError

from .adapters import AdapterEntry
from .jobs.local import ROOT

Format = Literal["adapter", "lora", "kohya", "diff"]
PATIENCE = 600.0
PARTS = ("adapter_config.json", "*.safetensors", "hint_encoder*.json", "README.md")


def export_adapter(entry: AdapterEntry, format: Format, folder: Path) -> Path:
    """Write the recommended weights of an adapter; the file.

    Raises:
        UserError: it cannot be written in this format; the command's own sentence.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    weights = entry.weights()
    if format == "adapter":
        return _pack(entry, weights, folder)
    place = folder / f"{entry.name}-{format}.safetensors"
    words = ["export", f"--adapter={weights}", f"--output={place}", f"--format={format}"]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "orthodiff", *words, "--overwrite"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode or not place.is_file():
        raise UserError(_sentence(done.stderr, entry, weights, place))
    return place


def _pack(entry: AdapterEntry, weights: Path, folder: Path) -> Path:
    """The folder as PEFT reads it, in a zip."""
    place = folder / f"{entry.name}.zip"
    new = place.with_name(f".{place.name}")
    with zipfile.ZipFile(new, "w") as pack:
        for pattern in PARTS:
            for path in sorted(weights.glob(pattern)):
                pack.write(path, f"{entry.name}/{path.name}")
    new.replace(place)
    return place


def _sentence(text: str, entry: AdapterEntry, weights: Path, place: Path) -> str:
    lines = [line for line in text.splitlines() if line.startswith(("error: ", "failed: "))]
    sentence = lines[-1].partition(": ")[2] if lines else "It could not be written."
    return sentence.replace(str(weights), entry.name).replace(str(place), place.name)

"""Adapters as files for other tools, written by `orthodiff export` in a process of its own."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Literal

from orthodiff.errors import UserError

from .adapters import AdapterEntry
from .command import run_command

Format = Literal["adapter", "lora", "kohya", "diff", "merged"]
FILES = ("adapter_config.json", "*.safetensors", "control.json", "README.md")
FOLDERS = ("", "text_encoder", "text_encoder_2")
"""What belongs to an adapter in a run's folder, which holds more."""


def export_adapter(entry: AdapterEntry, format: Format, folder: Path, *, base: str) -> Path:
    """Write the recommended weights of an adapter; the file. `merged` is the whole model, zipped.

    Raises:
        UserError: it cannot be written in this format; the command's own sentence.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    weights = entry.weights()
    if format == "adapter":
        return _pack(entry, weights, folder)
    is_merged = format == "merged"
    place = folder / f"{entry.name}-{format}{'' if is_merged else '.safetensors'}"
    shutil.rmtree(place, ignore_errors=True)
    words = [f"--adapter={weights}", f"--output={place}", f"--pretrained_model_name_or_path={base}"]
    command = ["merge"] if is_merged else ["export", f"--format={format}"]
    try:
        run_command([*command, *words, "--overwrite"], failed="It could not be written.")
    except UserError as error:
        sentence = str(error).replace(str(weights), entry.name).replace(str(place), place.name)
        raise UserError(sentence) from error
    return _zipped(place) if is_merged else place


def _pack(entry: AdapterEntry, weights: Path, folder: Path) -> Path:
    """The folder as PEFT reads it, in a zip."""
    place = folder / f"{entry.name}.zip"
    new = place.with_name(f".{place.name}")
    with zipfile.ZipFile(new, "w") as pack:
        for part in FOLDERS:
            for pattern in FILES:
                for path in sorted((weights / part).glob(pattern)):
                    pack.write(path, f"{entry.name}/{path.relative_to(weights)}")
    new.replace(place)
    return place


def _zipped(model: Path) -> Path:
    """A model's folder as one file; the folder is gone then."""
    place = model.with_name(f"{model.name}.zip")
    new = place.with_name(f".{place.name}")
    with zipfile.ZipFile(new, "w") as pack:  # weights do not get smaller by packing
        for path in sorted(model.rglob("*")):
            if path.is_file():
                pack.write(path, f"{model.name}/{path.relative_to(model)}")
    new.replace(place)
    shutil.rmtree(model)
    return place

"""The JSON indices of a base's folder, read as what a stranger may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError, printable


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """The `model_index.json` of the base `name`.

    Raises:
        UserError: there is none, it cannot be read, or it names something outside the folder.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise UserError(
            f"`{name}` holds no model_index.json, so it is not a diffusers-format base model. "
            "Give the folder that contains model_index.json, unet/, vae/ and text_encoder/."
        )
    index = _read_json(path)
    for part in index:
        _check_name(path, part)
    return index


def check_weight_maps(folder: Path) -> None:
    """Refuse sharded weights whose index leads out of its folder: libraries follow it blindly.

    Raises:
        UserError: naming the index and the entry.
    """
    for path in sorted(folder.glob("*/*.index*.json")):
        files = _read_json(path).get("weight_map")
        if not isinstance(files, dict):
            raise UserError(f"`{path}` has no weight_map. Download the base model again.")
        for file in set(map(str, files.values())):
            _check_name(path, file)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        if isinstance(content, dict):
            return content
        reason = "it holds no names"
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise UserError(f"`{path}` is not a valid index ({reason}). Download the base model again.")


def _check_name(path: Path, name: str) -> None:
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):
        raise UserError(
            f"`{path}` names `{printable(name)}`, which is no plain name of a file or folder "
            "beside it. Do not use this base model; get it from its source."
        )

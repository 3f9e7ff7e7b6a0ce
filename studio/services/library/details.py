"""What an adapter says of itself, for people: no folder of this computer among it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orthodiff.adapters.peft_format.method_format import CONFIG, WEIGHTS
from orthodiff.components.registry import components_in, describe
from orthodiff.errors import UserError
from orthodiff.io.safetensors import read_shapes

from ..adapters import AdapterEntry
from ..kinds.base import base_title

TITLES = {
    "unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder",
    "tokens": "words", "hint_encoder": "control encoder",
}  # fmt: skip
LEFT_OUT = ("instance_data_dir", "output_dir", "format", "base_sha256")


def facts_of(entry: AdapterEntry, checkpoint: str = "recommended") -> dict[str, str]:
    """Names and values: the parts of an adapter, its settings, and how it was trained.

    Raises:
        UserError: its files cannot be read.
    """
    folder = entry.weights(checkpoint)
    parts = components_in(folder)
    about = describe(folder)
    facts = {"parts": ", ".join(TITLES.get(part, part) for part in parts)}
    facts |= _sizes(folder)
    recipe: Mapping[str, Any] = about.get("recipe") or {}
    facts |= _settings(recipe.get("orthodiff.settings", ""))
    for name, value in recipe.items():
        hidden = name in LEFT_OUT or name.startswith(("orthodiff.", "modelspec."))
        if not hidden and value not in ("", None):
            facts[name] = _without_folder(str(value))
    return facts


def _sizes(folder: Path) -> dict[str, str]:
    """How many tensors and numbers the weights have."""
    path = folder / WEIGHTS
    if not (folder / CONFIG).is_file() or not path.is_file():
        return {}
    try:
        shapes, _ = read_shapes(path)
    except UserError:
        return {}
    numbers = sum(_product(shape) for shape in shapes.values())
    return {"tensors": f"{len(shapes):,}", "parameters": f"{numbers:,}"}


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _settings(text: str) -> dict[str, str]:
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        return {}
    return {name: str(value) for name, value in settings.items() if value not in (None, False)}


def _without_folder(value: str) -> str:
    return base_title(value) if value.startswith(("/", "~", ".")) else value

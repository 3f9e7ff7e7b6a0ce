"""Read the files of an adapter folder. Only safetensors and JSON: no code in them can run."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from orthodiff.adapters.algebra.chain import Chain
from orthodiff.adapters.method import Method
from orthodiff.adapters.peft_format.method_format import CONFIG, WEIGHTS
from orthodiff.adapters.registry import ADAPTERS, by_peft_type
from orthodiff.errors import UserError
from orthodiff.io.safetensors import read_tensors


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """Return the `adapter_config.json` of an adapter folder.

    Raises:
        UserError: if there is none, it is not JSON, or it is of a method we do not know.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}. Give the folder an adapter was saved to.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        peft_type = config.get("peft_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{path} is not readable JSON. Save the adapter again.") from None
    if not isinstance(peft_type, str) or peft_type not in readable():
        known = [method.peft_type or method.own_type() for method in ADAPTERS.values()]
        raise UserError(
            f"{path} has peft_type {peft_type!r}, but orthodiff reads only {', '.join(known)}. "
            "Load it with PEFT, or install the package that has this method."
        )
    return config


def readable() -> dict[str, type[Method]]:
    """Return every method that can be loaded, by the type in the configs of its folders."""
    return {**by_peft_type(), Chain.own_type(): Chain}


def read_adapter_metadata(folder: str | Path) -> dict[str, str]:
    """Return the recipe in an adapter folder: `base`, `orthodiff.method` and `save`'s metadata.

    Raises:
        UserError: if the weights are missing or not safetensors.
    """
    return read_weights(Path(folder), names=())[1]


def read_weights(
    folder: Path, names: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors, all or those of these names, and the recipe in the header.

    Raises:
        UserError: if the weights are missing or not safetensors.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS}, and other files are not read because they can run code. "
            "Convert them with PEFT first."
        )
    return read_tensors(path, names)

"""Which maps a data set holds, and whether they are such maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orthodiff.control import Condition, condition_of
from orthodiff.errors import FileError, UserError
from training.data.example import Example

ABOUT = "condition.json"
"""Lies beside the list of a data set: the `condition_type` of its maps and their `settings`."""
USUAL = "canny"


def find_condition(folder: Path | None, kind: str | None, settings: Mapping[str, Any]) -> Condition:
    """What the data say of their maps, else `kind`; given `settings` come before theirs.

    Raises:
        UserError: the two contradict each other, or there is no such kind or setting.
    """
    told = _told(folder / ABOUT) if folder and (folder / ABOUT).is_file() else None
    if told is None:
        return condition_of(kind or USUAL, settings)
    name, usual = told
    if kind not in (None, name):
        raise UserError(
            f"`condition_type` is {kind}, but the maps of `{folder}` are {name}. Use "
            f"--condition_type {name}, or other data."
        )
    return condition_of(name, {**usual, **settings})


def said_condition(
    folder: Path | None, kind: str | None, settings: Mapping[str, Any]
) -> Condition | None:
    """Like `find_condition`; None where neither the data nor the request speak of maps.

    Raises:
        UserError: the two contradict each other, or there is no such kind or setting.
    """
    speaks = kind or settings or (folder and (folder / ABOUT).is_file())
    return find_condition(folder, kind, settings) if speaks else None


def check_map(example: Example, condition: Condition) -> None:
    """Refuse what is no map of this kind; an empty one says "nothing here", and is one.

    Raises:
        FileError: naming the example.
    """
    given = example.condition
    if given is None or not np.ptp(np.asarray(given), axis=(0, 1)).any():
        return
    try:
        condition.check(given)
    except FileError:
        raise
    except UserError as error:
        reason, _, remedy = str(error).rstrip(".").rpartition(". ")
        raise FileError(example.name, reason, remedy, what="map of") from error


def _told(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        about = json.loads(path.read_text("utf-8"))
        return str(about["condition_type"]), dict(about.get("settings", {}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"`{path}` cannot be read. Correct or remove it.") from None

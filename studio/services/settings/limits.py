"""What can be refused before a job is made, so that nobody waits for a training to fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orthodiff import ADAPTERS
from orthodiff.errors import UserError
from orthodiff.io.assets import shipped

from .base import FieldError
from .methods import settings_of

MARKUP = ("\x00", "\x1b")


def check_base(name: str | None, bases: Sequence[str]) -> str:
    """A base that is offered; the first one where none was chosen.

    Raises:
        FieldError: it is not offered here.
    """
    if name is None:
        return bases[0]
    if name in bases:
        return name
    by_title = {Path(base).name: base for base in bases}
    if name in by_title:
        return by_title[name]
    raise FieldError(
        "base", "This base model is not offered here. Choose one of " + ", ".join(by_title) + "."
    )


def check_text(field: str, text: str) -> str:
    """Text that goes into prompts.

    Raises:
        FieldError: it holds signs that are no text.
    """
    if any(sign in text for sign in MARKUP) or "\n" in text:
        raise FieldError(field, "Use plain text on one line.")
    return text


def check_method(name: str, values: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The settings of a method, checked against the layers of the base.

    Raises:
        FieldError: no such method or setting, or a value it cannot have on this base.
    """
    if name not in ADAPTERS:
        raise FieldError("method", f"`{name}` is not a method. Use one of {', '.join(ADAPTERS)}.")
    known = {setting.name: setting for setting in settings_of(name)}
    for key in values:
        if key not in known:
            sentence = f"`{key}` is not a setting of {name}. It has {', '.join(known)}."
            raise FieldError("method_settings", sentence)
    given = {key: value for key, value in values.items() if value is not None and value != ""}
    read = {key: known[key].parse(value) for key, value in given.items()}
    narrowest = _narrowest(base)
    rank = read.get("rank")
    if rank is not None and narrowest and rank > narrowest:
        raise FieldError(
            "method_settings",
            f"Rank is {rank}, but the narrowest layer of {Path(base).name} has {narrowest} "
            f"features. Use at most {narrowest}; 8 does well.",
        )
    try:
        ADAPTERS[name](**read)
    except UserError as error:
        raise FieldError("method_settings", str(error)) from error
    return read


def _narrowest(base: str) -> int | None:
    """The fewest features of an adapted layer, as the UNet's configuration tells."""
    try:
        unet = json.loads((shipped(base) / "unet" / "config.json").read_text("utf-8"))
        blocks = zip(unet["down_block_types"], unet["block_out_channels"], strict=True)
        widths = [int(width) for kind, width in blocks if "Attn" in kind]
        cross = unet.get("cross_attention_dim")
        return min([*widths, *([int(cross)] if isinstance(cross, int) else [])])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Choose layers of a model by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from orthodiff.adapters.layers.adaptable import Adaptable, is_adaptable
from orthodiff.errors import UserError

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections of diffusers' UNets: the papers' subject recipe."""
ATTENTION_AND_GEGLU = (*ATTENTION, "ff.net.0.proj")
"""The same and the gated feed-forward projection: the papers' control recipe."""
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention projections of transformers' CLIP text encoders."""
ALL_LINEAR = ("*",)
"""Every linear layer, and no convolution."""


def adaptable_layers(model: nn.Module) -> dict[str, Adaptable]:
    """Return the linear and convolution layers of `model` by name.

    Raises:
        UserError: if the model is adapted already.
    """
    modules = dict(model.named_modules())
    if any(hasattr(module, "adapter_parameters") for module in modules.values()):
        raise UserError("The model is adapted already. Call `detach()` on its adapter first.")
    return {name: m for name, m in modules.items() if name and is_adaptable(m)}


def find_targets(layers: Mapping[str, Adaptable], targets: str | Iterable[str]) -> list[str]:
    """Return the names of the layers that `targets` select, in the model's order.

    `*` alone stands for every linear layer; convolutions are adapted where a target names them.

    Raises:
        UserError: if a target selects nothing (close names are listed) or there is none.
    """
    patterns = (targets,) if isinstance(targets, str) else tuple(targets)
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name, layer in layers.items() if _matches(name, layer, pattern)}
        if not found:
            raise UserError(_unknown_target(pattern, list(layers)))
        chosen |= found
    if not patterns:
        raise UserError("`targets` is empty, so there is nothing to adapt. Name a layer.")
    return [name for name in layers if name in chosen]


def _matches(name: str, layer: Adaptable, pattern: str) -> bool:
    if pattern == "*":
        return isinstance(layer, nn.Linear)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _unknown_target(pattern: str, names: list[str]) -> str:
    ends = {".".join(name.split(".")[-k:]) for name in names for k in (1, 2)}
    close = difflib.get_close_matches(pattern, sorted(ends), n=3, cutoff=0.5)
    remedy = (
        f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(names[:3])} ..."
    )
    return (
        f"{pattern!r} is among the layers to adapt, but the model has no linear or convolution "
        f"layer of that name. {remedy}"
    )

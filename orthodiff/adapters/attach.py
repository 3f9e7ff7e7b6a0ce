"""Adapt the layers of a model that are chosen by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from orthodiff.adapters.adapter import Adapter, install
from orthodiff.adapters.checks import naming
from orthodiff.adapters.layers.adaptable import dimensions
from orthodiff.adapters.method import Method
from orthodiff.adapters.targets import ATTENTION, adaptable_layers, find_targets, refuse_fused
from orthodiff.errors import UserError


def attach(
    model: nn.Module,
    method: Method,
    *,
    targets: str | Iterable[str] = ATTENTION,
    generator: torch.Generator | None = None,
) -> Adapter:
    """Freeze `model`, adapt the layers that `targets` name, and return the adapter.

    A target is the end of a linear or convolution layer's dotted name (`to_q`, `attn1.to_q`) or a
    glob pattern (`down_blocks.*.to_q`); presets are `ATTENTION`, `ATTENTION_AND_GEGLU`,
    `TEXT_ATTENTION` and `ALL_LINEAR`. The start is drawn from `generator`, else from torch's global
    one, on the CPU, in float32 and in the order of the layers: the same seed gives the same bits.

    Raises:
        UserError: if a target names no such layer, or the settings do not fit a layer. The model
            is left untouched then.
    """
    if not isinstance(method, Method):
        raise UserError(
            f"`method` is {method!r}, but it must be the settings of an adapter. Use for example "
            "orthodiff.HRA(rank=8)."
        )
    adaptable = adaptable_layers(model)
    names = find_targets(adaptable, targets)
    refuse_fused(model, names)
    layers = {}
    for name in names:
        with naming(name):
            start = method.start(*dimensions(adaptable[name]), generator=generator)
            layers[name] = method.wrap(adaptable[name], start)
    return install(model, method, layers)

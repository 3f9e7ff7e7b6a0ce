"""Where a model holds a layer, which may be under several names, and what stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from torch import nn

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.errors import UserError


def places_of(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Return every name under which `model` holds each of the layers."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    return {name: names[id(layer)] for name, layer in layers.items()}


def put(model: nn.Module, names: Iterable[str], module: nn.Module) -> None:
    """Put a module in the place of those of these names, in the same mode of training."""
    for name in names:
        parent, _, child = name.rpartition(".")
        module.train(model.get_submodule(name).training)
        setattr(model.get_submodule(parent), child, module)


def base_layer_of(model: nn.Module, name: str) -> Adaptable:
    """Return a layer of the model, without its adapter.

    Raises:
        UserError: if there is none of this name.
    """
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise UserError(
            f"The adapters are for different models: one has no layer {name}. "
            "Load both for one base."
        ) from None
    return cast(Adaptable, getattr(module, "base_layer", module))

"""How far a saved adapter turns each layer, from its folder alone: no model is opened."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from orthodiff.adapters.checks import naming, require_finite
from orthodiff.adapters.peft_format.load import method_of
from orthodiff.adapters.peft_format.method_format import PREFIX, WEIGHTS
from orthodiff.adapters.peft_format.read import read_adapter_config, read_weights
from orthodiff.adapters.rotation import Rotation
from orthodiff.errors import UserError


@torch.no_grad()
def saved_angles(folder: Path) -> dict[str, Tensor]:
    """Return by layer the angles that `Adapter.rotation_angles` gives once the folder is loaded.

    Radians from 0 to pi, (n,), largest first; layers in the order of the file.

    Raises:
        UserError: the folder is no adapter that can be read, or one that does not rotate.
    """
    config = read_adapter_config(folder)
    tensors, metadata = read_weights(folder)
    layers = _by_layer(tensors)
    if not layers:
        raise UserError(f"The adapter's {WEIGHTS} is empty. Save it again.")
    method = method_of(config, metadata, next(iter(layers.values())))
    if not isinstance(method, Rotation) or type(method).angles is Rotation.angles:
        raise UserError(f"{method.name} does not rotate, so there are no angles to show.")
    angles = {}
    for name, own in layers.items():
        with naming(name):
            parameters = {key: t.float() for key, t in method.unpack(own, config).items()}
            require_finite(parameters, "The adapter")
            angles[name] = method.angles(method.prepare(parameters)).flatten()
    return angles


def _by_layer(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group tensors by layer: the last part of a name is the parameter's, `.weight` goes along."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        parts = key.removeprefix(PREFIX).split(".")
        cut = -2 if parts[-1] == "weight" else -1
        layers.setdefault(".".join(parts[:cut]), {})[".".join(parts[cut:])] = tensor
    return layers

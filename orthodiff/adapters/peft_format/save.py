"""Write an adapter folder: PEFT's layout, with the recipe as safetensors metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from orthodiff.adapters.checks import naming, require_finite
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.adapters.method import Method
from orthodiff.adapters.peft_format.method_format import CONFIG, PREFIX, WEIGHTS
from orthodiff.adapters.targets import canonical_name
from orthodiff.io.atomic import publishing
from orthodiff.io.modelspec import modelspec, seal_header


def save(
    model: nn.Module,
    method: Method,
    layers: Mapping[str, AdaptedLayer],
    folder: str | Path,
    *,
    base: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the adapted `layers` of `model` to `folder` so that `load` and PEFT can read them.

    `base` is the base model's folder or hub id; `metadata` is kept in the header of the weights. A
    new folder appears complete or not at all; in an existing one each file is replaced in one step,
    the weights first, and other files stay.

    Raises:
        UserError: if `folder` is a file, or a layer's parameters are not finite.
    """
    tensors = _pack(method, layers)
    with publishing(Path(folder)) as new:
        recipe = _recipe(model, method, base, metadata)
        # bytes rather than save_file, which makes files that only their owner can read
        (new / WEIGHTS).write_bytes(to_bytes(tensors, metadata=recipe))
        seal_header(new / WEIGHTS)
        config = json.dumps(_config(method, layers, base), indent=2)
        (new / CONFIG).write_text(f"{config}\n", encoding="utf-8")


def _pack(method: Method, layers: Mapping[str, AdaptedLayer]) -> dict[str, Tensor]:
    tensors = {}
    for layer_name, layer in layers.items():
        parameters = {name: p.detach().cpu() for name, p in layer.adapter_parameters().items()}
        with naming(layer_name):
            require_finite(parameters, "The adapter")
        for name, tensor in method.pack(parameters, layer.base_layer).items():
            tensors[f"{PREFIX}{canonical_name(layer_name)}.{name}"] = tensor.contiguous()
    return tensors


def _recipe(
    model: nn.Module, method: Method, base: str | None, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    given = dict(metadata or {})
    settings = json.dumps(method.settings())
    own = {"format": "pt", "orthodiff.method": method.name, "orthodiff.settings": settings}
    known = modelspec(model, method.name, given)
    return {**known, **own, **({"base": base} if base else {}), **given}


def _config(method: Method, layers: Mapping[str, AdaptedLayer], base: str | None) -> dict[str, Any]:
    alike = all(method.runs_in_peft(layer.base_layer) for layer in layers.values())
    return {
        "peft_type": method.peft_type if alike and method.peft_type else method.own_type(),
        "base_model_name_or_path": base,
        "target_modules": [canonical_name(name) for name in layers],
        "bias": "none",
        "modules_to_save": None,
        "inference_mode": True,
        "task_type": None,
        **method.peft_config(),
    }

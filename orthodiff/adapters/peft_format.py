"""Read and write an adapter folder: PEFT's layout, with the recipe as safetensors metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from orthodiff.adapters import (
    ADAPTERS,
    OURS,
    READABLE,
    Method,
)
from orthodiff.adapters.adapter import install
from orthodiff.adapters.checks import check_tensors, naming, refuse_flags
from orthodiff.adapters.layers.adaptable import Adaptable, dimensions
from orthodiff.adapters.targets import adaptable_layers
from orthodiff.errors import UserError
from orthodiff.io.atomic import publishing
from orthodiff.io.modelspec import modelspec, seal_header

if TYPE_CHECKING:
    from orthodiff.adapters.adapter import Adapter

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT's prefix of every tensor name."""


def save(
    adapter: Adapter,
    folder: str | Path,
    *,
    base: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `adapter` to `folder` so that `load` and PEFT can read it, merged or not.

    `base` is the base model's folder or hub id; `metadata` is kept in the header of the weights. A
    new folder appears complete or not at all; in an existing one each file is replaced in one step,
    the weights first, and other files stay.

    Raises:
        UserError: if `folder` is a file.
    """
    with publishing(Path(folder)) as new:
        recipe = _recipe(adapter, base, metadata)
        # bytes rather than save_file, which makes files that only their owner can read
        (new / WEIGHTS).write_bytes(to_bytes(_pack(adapter), metadata=recipe))
        seal_header(new / WEIGHTS)
        config = json.dumps(_config(adapter, base), indent=2)
        (new / CONFIG).write_text(f"{config}\n", encoding="utf-8")


def _pack(adapter: Adapter) -> dict[str, Tensor]:
    return {
        f"{PREFIX}{layer_name}.{name}": tensor.contiguous()
        for layer_name, layer in adapter.layers.items()
        for name, tensor in adapter.method.pack(
            {name: p.detach().cpu() for name, p in layer.adapter_parameters().items()},
            layer.base_layer,
        ).items()
    }


def _recipe(
    adapter: Adapter, base: str | None, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    method, given = adapter.method, dict(metadata or {})
    settings = json.dumps(method.settings())
    own = {"format": "pt", "orthodiff.method": method.name, "orthodiff.settings": settings}
    known = modelspec(adapter.model, method.name, given)
    return {**known, **own, **({"base": base} if base else {}), **given}


def _config(adapter: Adapter, base: str | None) -> dict[str, Any]:
    return {
        "peft_type": _peft_type(adapter),
        "base_model_name_or_path": base,
        "target_modules": list(adapter.layers),
        "bias": "none",
        "modules_to_save": None,
        "inference_mode": True,
        "task_type": None,
        **adapter.method.peft_config(),
    }


def _peft_type(adapter: Adapter) -> str:
    """Return PEFT's name of the method, or ours if PEFT would run one of the layers otherwise."""
    method = adapter.method
    alike = all(method.runs_in_peft(layer.base_layer) for layer in adapter.layers.values())
    return method.peft_type if alike else f"{OURS}{method.peft_type}"


def load(model: nn.Module, folder: str | Path) -> Adapter:
    """Attach the adapter saved in `folder`, by orthodiff or by PEFT, to `model`.

    Only safetensors are read: no code in the folder can run.

    Raises:
        UserError: if the folder is no adapter we know or does not fit `model`, which is left as is.
    """
    config = read_config(folder)
    tensors, metadata = _read_weights(Path(folder))
    adaptable = adaptable_layers(model)
    by_layer = _by_layer(tensors, adaptable)
    method = _method(config, metadata, next(iter(by_layer.values())))
    layers = {}
    for name, layer in adaptable.items():
        if name not in by_layer:
            continue
        parameters = method.unpack(by_layer[name], config)
        with naming(name):
            shapes = _shapes(method, layer, parameters)
            check_tensors(parameters, shapes, "The adapter")
            _check_origin(config, method, layer)
            own = {key: parameters[key].float().clone() for key in shapes}
            layers[name] = method.wrap(layer, own)
    return install(model, method, layers)


def _shapes(
    method: Method, layer: Adaptable, found: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that `method` needs for `layer`.

    Raises:
        UserError: if the method does not fit the layer, naming the shapes that were found.
    """
    d, out = dimensions(layer)
    try:
        return method.shapes(d, out)
    except UserError:
        told = " and ".join(f"{name} of shape {tuple(t.shape)}" for name, t in found.items())
        raise UserError(
            f"The adapter has {told}, but the weight here is of shape {(out, d)}. It belongs to "
            "another base model."
        ) from None


def _check_origin(config: Mapping[str, Any], method: Method, layer: Adaptable) -> None:
    """Refuse what PEFT trained for a layer that it runs in another way.

    Raises:
        UserError: if the folder is PEFT's and the layer such a convolution.
    """
    if not config["peft_type"].startswith(OURS) and not method.runs_in_peft(layer):
        raise UserError(
            f"PEFT's {method.peft_type} does not rotate the weight of this convolution, so what it "
            "learned there cannot be read. Use PEFT, or train the layer with orthodiff."
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the `adapter_config.json` of an adapter folder.

    Raises:
        UserError: if there is none, it is not JSON, or it is of a method we do not know.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}. Give the folder an adapter was saved to.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config.get("peft_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{path} is not readable JSON. Save the adapter again.") from None
    known = [method.peft_type for method in ADAPTERS.values()]
    if not isinstance(found, str) or found not in READABLE:
        raise UserError(
            f"{path} has peft_type {found!r}, but orthodiff reads only {', '.join(known)}. "
            "Load it with PEFT."
        )
    return config


def read_metadata(folder: str | Path) -> dict[str, str]:
    """Return the recipe in an adapter folder: `base`, `orthodiff.method` and `save`'s metadata.

    Raises:
        UserError: if the weights are missing or not safetensors.
    """
    return _read_weights(Path(folder), names=())[1]


def _read_weights(
    folder: Path, names: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS}, and other files are not read because they can run code. "
            "Convert them with PEFT first."
        )
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys() if names is None else names
            return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})
    except (SafetensorError, OSError):
        raise UserError(f"{path} is truncated or not safetensors. Save it again.") from None


def _by_layer(
    tensors: Mapping[str, Tensor], adaptable: Mapping[str, Adaptable]
) -> dict[str, dict[str, Tensor]]:
    """Group tensors by the layer whose name they carry."""
    by_layer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        parts = key.removeprefix(PREFIX).split(".")
        cuts = (k for k in range(len(parts) - 1, 0, -1) if ".".join(parts[:k]) in adaptable)
        if (cut := next(cuts, None)) is None:
            raise UserError(
                f"The adapter has {key}, but the model has no such layer. "
                "It belongs to another model."
            )
        by_layer.setdefault(".".join(parts[:cut]), {})[".".join(parts[cut:])] = tensor
    if not by_layer:
        raise UserError(f"The adapter's {WEIGHTS} is empty. Save it again.")
    return by_layer


def _method(
    config: Mapping[str, Any], metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> Method:
    """Return the settings: of our own recipe if there is one, else what PEFT's config says."""
    cls = READABLE[config["peft_type"]]
    refuse_flags(config, "modules_to_save")
    if config.get("bias", "none") != "none":
        raise UserError("The adapter has trained biases, which orthodiff does not read. Use PEFT.")
    try:
        method = cls.from_peft(config, tensors)
        if metadata.get("orthodiff.method") != cls.name:
            return method
        settings = json.loads(metadata.get("orthodiff.settings", "{}"))
        names = {field.name for field in dataclasses.fields(cls)}
        return dataclasses.replace(method, **{k: v for k, v in settings.items() if k in names})
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError):
        raise UserError("The adapter's settings cannot be read. Save it again.") from None

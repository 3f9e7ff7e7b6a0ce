"""Read and write an adapter folder: PEFT's layout, with the recipe as safetensors metadata."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from orthodiff.adapters import ADAPTERS, Method
from orthodiff.errors import UserError
from orthodiff.inject import check_same_tensors, install, wrap_layers

if TYPE_CHECKING:
    from orthodiff.inject import Adapter

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT's prefix of every tensor name."""

LayerTensors = dict[str, dict[str, Tensor]]


def save(
    adapter: Adapter,
    folder: str | Path,
    *,
    base: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `adapter` to `folder` so that `load` and PEFT can read it, merged or not.

    `base` is the base model's folder or hub id; `metadata` is kept in the header of the weights. A new
    folder appears complete or not at all; in an existing one each file is replaced in one step, the
    weights first.

    Raises:
        UserError: if `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"{folder} is a file, but an adapter is saved as a folder. Choose another name."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "adapter"
        new.mkdir()
        save_file(_packed(adapter), new / WEIGHTS, metadata=_recipe(adapter.method, base, metadata))
        (new / CONFIG).write_text(
            json.dumps(_config(adapter, base), indent=2) + "\n", encoding="utf-8"
        )
        _publish(new, folder)


def _publish(new: Path, folder: Path) -> None:
    """Move a finished folder into place in one step, or its files one by one into an existing folder."""
    for path in (new / WEIGHTS, new / CONFIG):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if not folder.exists():
        shutil.move(new, folder)
        return
    for name in (WEIGHTS, CONFIG):
        os.replace(new / name, folder / name)


def _packed(adapter: Adapter) -> dict[str, Tensor]:
    tensors = {}
    for layer_name, layer in adapter.layers.items():
        parameters = {name: p.detach().cpu() for name, p in layer.adapter_parameters().items()}
        out = layer.base_layer.weight.shape[0]  # type: ignore[union-attr]
        for name, tensor in adapter.method.pack(parameters, out).items():
            tensors[f"{PREFIX}{layer_name}.{name}"] = tensor.contiguous()
    return tensors


def _recipe(method: Method, base: str | None, metadata: Mapping[str, str] | None) -> dict[str, str]:
    own = {
        "format": "pt",
        "orthodiff.method": method.name,
        "orthodiff.settings": json.dumps(method.settings()),
    }
    return own | ({"base": base} if base else {}) | dict(metadata or {})


def _config(adapter: Adapter, base: str | None) -> dict[str, Any]:
    return {
        "peft_type": adapter.method.peft_type,
        "base_model_name_or_path": base,
        "target_modules": list(adapter.layers),
        "bias": "none",
        "modules_to_save": None,
        "inference_mode": True,
        "task_type": None,
        **adapter.method.peft_config(),
    }


def load(model: nn.Module, folder: str | Path) -> Adapter:
    """Attach the adapter saved in `folder`, by orthodiff or by PEFT, to `model`.

    Only safetensors are read: no code in the folder can run.

    Raises:
        UserError: if the folder is not an adapter we know or does not fit `model`, which is left untouched.
    """
    config = read_config(folder)
    tensors, metadata = _read_weights(folder)
    by_layer = _split(tensors, model)
    method = _method(config, metadata, next(iter(by_layer.values())))
    layers = wrap_layers(model, method, by_layer)
    for name, layer in layers.items():
        parameters = layer.adapter_parameters()
        given = method.unpack(by_layer[name], config)
        check_same_tensors(
            {f"{name}.{k}": v for k, v in given.items()},
            {f"{name}.{k}": v for k, v in parameters.items()},
            what="The adapter",
        )
        for key, parameter in parameters.items():
            parameter.data.copy_(given[key])
    return install(model, method, layers)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the adapter's `adapter_config.json`.

    Raises:
        UserError: if there is none, it is not JSON, or it is of a method we do not know.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no {CONFIG}, so it is not an adapter. Give the folder an adapter was saved to."
        ) from None
    except (OSError, ValueError):
        raise UserError(
            f"{path} cannot be read as JSON. Save or download the adapter again."
        ) from None
    known = [method.peft_type for method in ADAPTERS.values()]
    if not isinstance(config, dict) or config.get("peft_type") not in known:
        found = config.get("peft_type") if isinstance(config, dict) else None
        raise UserError(
            f"{path} has peft_type {found!r}, but orthodiff reads only {', '.join(known)}. Load it with PEFT."
        )
    return config


def read_metadata(folder: str | Path) -> dict[str, str]:
    """Return the recipe saved with the adapter in `folder`: `metadata` of `save`, `base`, `orthodiff.method` ...

    Raises:
        UserError: if the weights are missing or not safetensors.
    """
    with _open(Path(folder) / WEIGHTS) as file:
        return dict(file.metadata() or {})


def _read_weights(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _open(Path(folder) / WEIGHTS) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _open(path: Path) -> Any:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {WEIGHTS}. Only safetensors are read: convert other files with PEFT first."
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError):
        raise UserError(
            f"{path} is truncated or not a safetensors file. Save or download the adapter again."
        ) from None


def _split(tensors: Mapping[str, Tensor], model: nn.Module) -> LayerTensors:
    """Group tensors by the layer whose name they carry; the longest name of a linear layer wins."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    by_layer: LayerTensors = {}
    for key, tensor in tensors.items():
        parts = key.removeprefix(PREFIX).split(".")
        cuts = (k for k in range(len(parts) - 1, 0, -1) if ".".join(parts[:k]) in linear)
        cut = next(cuts, None)
        if cut is None:
            raise UserError(
                f"The adapter has {key}, but the model has no linear layer of that name. It belongs to another model."
            )
        by_layer.setdefault(".".join(parts[:cut]), {})[".".join(parts[cut:])] = tensor
    if not by_layer:
        raise UserError(f"The adapter's {WEIGHTS} holds no tensors. Save or download it again.")
    return {
        name: by_layer[name] for name in (n for n, _ in model.named_modules()) if name in by_layer
    }


def _method(
    config: Mapping[str, Any], metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> Method:
    """Return the settings: those of our own recipe if there is one, else what PEFT's config says."""
    cls = next(method for method in ADAPTERS.values() if method.peft_type == config["peft_type"])
    for flag in ("modules_to_save", "layers_to_transform"):
        if config.get(flag):
            raise UserError(
                f"The adapter uses PEFT's `{flag}`, which orthodiff does not read. Load it with PEFT."
            )
    if config.get("bias", "none") != "none":
        raise UserError(
            "The adapter also trained biases (PEFT's `bias`), which orthodiff does not read. Load it with PEFT."
        )
    if metadata.get("orthodiff.method") == cls.name:
        return _from_recipe(cls, metadata.get("orthodiff.settings", "{}"))
    return cls.from_peft(config, tensors)


def _from_recipe(cls: type[Method], text: str) -> Method:
    names = {field.name for field in dataclasses.fields(cls)}
    try:
        settings = json.loads(text)
        return cls(**{name: settings[name] for name in settings if name in names})
    except (ValueError, TypeError):
        raise UserError(
            f"The adapter's settings {text[:80]!r} cannot be read. Save it again."
        ) from None

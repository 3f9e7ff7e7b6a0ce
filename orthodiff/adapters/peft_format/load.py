"""Put a saved adapter on a model: a folder of orthodiff or of PEFT."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from orthodiff.adapters.adapter import Adapter, install
from orthodiff.adapters.checks import check_tensors, naming
from orthodiff.adapters.layers.adaptable import Adaptable, device_of, dimensions
from orthodiff.adapters.method import Method
from orthodiff.adapters.peft_format.method_format import OURS, PREFIX, WEIGHTS, refuse_variants
from orthodiff.adapters.peft_format.read import read_adapter_config, read_weights, readable
from orthodiff.adapters.rotation import Parameters
from orthodiff.adapters.targets import LayerNames, adaptable_layers, refuse_fused
from orthodiff.errors import UserError


def load(model: nn.Module, folder: str | Path, *, allow_missing: bool = False) -> Adapter:
    """Attach the adapter saved in `folder`, by orthodiff or by PEFT, to `model`.

    Only safetensors are read: no code in the folder can run. An adapter that lacks layers which
    its config names is refused, or with `allow_missing` loaded with a warning.

    Raises:
        UserError: if the folder is no adapter we know or does not fit `model`, which is left as is.
    """
    method, parameters = _read(model, Path(folder), allow_missing=allow_missing)
    adaptable = adaptable_layers(model)
    layers = {}
    for name, own in parameters.items():
        with naming(name):
            _refuse_meta(adaptable[name])
            layers[name] = method.wrap(adaptable[name], own)
    return install(model, method, layers)


def check_fits(model: nn.Module, folder: str | Path) -> None:
    """Refuse what `load` would refuse to put on `model`, which may be on the meta device.

    Raises:
        UserError: the folder is no adapter we know, or a name or a shape in it does not fit.
    """
    _read(model, Path(folder), allow_missing=False)


def _read(
    model: nn.Module, folder: Path, *, allow_missing: bool
) -> tuple[Method, dict[str, dict[str, Tensor]]]:
    """Return the method and the parameters of every layer, checked, in the order of the model."""
    config = read_adapter_config(folder)
    tensors, metadata = read_weights(folder)
    adaptable = adaptable_layers(model)
    names = LayerNames(adaptable)
    by_layer = _by_layer(tensors, names)
    _check_complete(_targets(config, names, adaptable), by_layer, allow_missing=allow_missing)
    refuse_fused(model, by_layer)
    method = method_of(config, metadata, next(iter(by_layer.values())))
    parameters = {}
    for name in (name for name in adaptable if name in by_layer):
        with naming(name):
            _check_origin(config, method, adaptable[name])
            parameters[name] = _parameters(config, method, adaptable[name], by_layer[name])
    return method, parameters


def _refuse_meta(layer: Adaptable) -> None:
    if device_of(layer).type == "meta":
        raise UserError(
            "The model is on the meta device, which keeps no numbers. Give it its weights first."
        )


def _parameters(
    config: Mapping[str, Any], method: Method, layer: Adaptable, tensors: Parameters
) -> dict[str, Tensor]:
    """Return a layer's float32 parameters from its tensors in the file."""
    parameters = method.unpack(tensors, config)
    shapes = _shapes(method, layer, parameters)
    check_tensors(parameters, shapes, "The adapter")
    return {key: parameters[key].float().clone() for key in shapes}


def _shapes(method: Method, layer: Adaptable, present: Parameters) -> dict[str, tuple[int, ...]]:
    """Return the shapes that `method` needs for `layer`.

    Raises:
        UserError: if the method does not fit the layer, naming the shapes that are present.
    """
    d, out = dimensions(layer)
    try:
        return method.shapes(d, out)
    except UserError:
        shapes = " and ".join(f"{name} of shape {tuple(t.shape)}" for name, t in present.items())
        raise UserError(
            f"The adapter has {shapes}, but the weight here is of shape {(out, d)}. It belongs to "
            "another base model."
        ) from None


def _check_origin(config: Mapping[str, Any], method: Method, layer: Adaptable) -> None:
    """Refuse what PEFT trained for a layer that it runs in another way.

    Raises:
        UserError: if the folder is PEFT's and the layer such a convolution.
    """
    if not config["peft_type"].startswith(OURS) and not method.runs_in_peft(layer):
        raise UserError(
            f"PEFT's {method.peft_type} does not rotate the weight of this layer as it is, so what "
            "it learned there cannot be read. Use PEFT, or train the layer with orthodiff."
        )


def _by_layer(tensors: Parameters, names: LayerNames) -> dict[str, dict[str, Tensor]]:
    """Group tensors by the layer whose name they carry."""
    by_layer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if not tensor.ndim:
            raise UserError(f"The adapter has {key} of shape (). It is damaged.")
        parts = key.removeprefix(PREFIX).split(".")
        for cut in range(len(parts) - 1, 0, -1):
            if layer := names.find(".".join(parts[:cut])):
                by_layer.setdefault(layer, {})[".".join(parts[cut:])] = tensor
                break
        else:
            raise UserError(
                f"The adapter has {key}, but the model has no such layer. "
                "It belongs to another model."
            )
    if not by_layer:
        raise UserError(f"The adapter's {WEIGHTS} is empty. Save it again.")
    return by_layer


def _check_complete(targets: list[str], present: Mapping[str, Any], *, allow_missing: bool) -> None:
    """Refuse an adapter that lacks tensors of layers that its config names.

    Raises:
        UserError: naming the first such layers.
    """
    missing = [name for name in targets if name not in present]
    if not missing:
        return
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    sentence = (
        f"The adapter's config names layers that its weights lack: {', '.join(missing[:3])}{more}."
    )
    if not allow_missing:
        raise UserError(
            f"{sentence} It is damaged, or belongs to another model. Save it again, or load it "
            "with `allow_missing=True` to leave those layers as they are."
        )
    warnings.warn(f"{sentence} They are left as they are.", stacklevel=3)


def _targets(
    config: Mapping[str, Any], names: LayerNames, adaptable: Mapping[str, Adaptable]
) -> list[str]:
    """Return the layers that `target_modules` selects by PEFT's rules, by their first names."""
    if config.get("layers_to_transform") is not None:
        return []
    targets, exceptions = config.get("target_modules"), config.get("exclude_modules")
    selected = [
        name for name in adaptable if _selects(targets, name) and not _selects(exceptions, name)
    ]
    if isinstance(targets, list):
        selected += [str(entry) for entry in targets if names.find(str(entry))]
    return list(dict.fromkeys(names.find(name) or name for name in selected))


def _selects(targets: Any, name: str) -> bool:
    if isinstance(targets, str):
        try:
            return re.fullmatch(targets, name) is not None
        except re.error:
            raise UserError(
                f"The adapter's `target_modules` is {targets!r}, which is no pattern. "
                "Save it again."
            ) from None
    entries = targets if isinstance(targets, list) else []
    return any(name == entry or name.endswith(f".{entry}") for entry in entries)


def method_of(
    config: Mapping[str, Any], metadata: Mapping[str, str], tensors: Parameters
) -> Method:
    """Return the settings: of our own recipe if there is one, else what PEFT's config says."""
    cls = readable()[config["peft_type"]]
    refuse_variants(config, cls.peft_entries)
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

"""Which layers can be adapted, and how each is read as a matrix whose rows are rotated."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

Adaptable = nn.Linear | nn.Conv2d

FORWARDS = (nn.Linear.forward, nn.Conv2d.forward)
CONVOLVE = nn.Conv2d._conv_forward


def is_adaptable(module: nn.Module) -> TypeGuard[Adaptable]:
    """Whether `module` is a linear layer or a 2-D convolution whose own `forward` is run.

    transformers' `Conv1D`, the linear layer of GPT-2, is one too.
    """
    # `nn.MultiheadAttention` reads the weight of its output projection without running it
    ignored = isinstance(module, NonDynamicallyQuantizableLinear)
    known = isinstance(module, (nn.Linear, nn.Conv2d)) or is_transposed(module)
    return known and not ignored


def is_transposed(module: nn.Module) -> bool:
    """Whether `module` is transformers' `Conv1D`, a linear layer with a weight of (d, out)."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def dimensions(layer: Adaptable) -> tuple[int, int]:
    """Return the width d of the rows of the layer's weight matrix, and their number out.

    A row of a convolution is one filter, flattened: d = in / groups * kernel height * width. The
    groups of a grouped convolution share one rotation of their filters.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if is_transposed(layer):
        return layer.weight.shape[0], layer.weight.shape[1]
    height, width = layer.kernel_size
    return layer.in_channels // layer.groups * height * width, layer.out_channels


def as_matrix(layer: Adaptable, weight: Tensor) -> Tensor:
    """Return a weight of the layer's shape as the matrix W (out, d)."""
    return weight.T if is_transposed(layer) else weight.flatten(1)


def as_weight(layer: Adaptable, matrix: Tensor, shape: torch.Size) -> Tensor:
    """Return a matrix (out, d) in the shape of the layer's weight."""
    return matrix.T if is_transposed(layer) else matrix.view(shape)


def is_plain(layer: Adaptable) -> bool:
    """Whether PEFT's rotated layers run `layer` as it is: they pass over half of its settings."""
    if isinstance(layer, nn.Linear):
        return True
    if is_transposed(layer):
        return False
    sides = (layer.kernel_size, layer.stride, layer.padding)
    alike = all(len(set(side)) == 1 for side in sides) and not isinstance(layer.padding, str)
    plain_geometry = (
        layer.dilation == (1, 1) and layer.padding_mode == "zeros" and layer.groups == 1
    )
    return alike and plain_geometry


def runs_its_own_way(layer: Adaptable) -> bool:
    """Whether the layer does more than multiply by its weight: its class's `forward`, or hooks."""
    kind: Any = type(layer)
    plain = kind.forward in FORWARDS or is_transposed(layer)
    plain = plain and getattr(kind, "_conv_forward", CONVOLVE) is CONVOLVE
    return not plain or "forward" in vars(layer) or has_hooks(layer)


def has_hooks(layer: nn.Module) -> bool:
    """Whether torch would call anything around the layer's `forward`."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def out_of_reach(layer: Adaptable) -> str | None:
    """Return why only the layer itself can use its weight, as a clause, or None if all can."""
    weight: Any = layer._parameters.get("weight")
    if weight is None:
        return "computes its weight from other tensors (a parametrization or weight norm)"
    d, out = dimensions(layer)
    if weight.numel() != d * out or not weight.is_floating_point() or weight.dtype.itemsize == 1:
        return "is quantized"
    if hasattr(weight, "__tensor_flatten__"):
        return "has a weight of a tensor type of its own"
    if weight.is_meta and hasattr(layer, "_hf_hook"):
        return "is offloaded, so that its weight is away between calls"
    return None


def device_of(layer: Adaptable) -> torch.device:
    """Return the device that the layer computes on, also while accelerate keeps its weight away."""
    weight: Tensor = layer.weight
    hook = getattr(layer, "_hf_hook", None)
    device = getattr(hook, "execution_device", None) if weight.is_meta else None
    return weight.device if device is None else torch.device(device)

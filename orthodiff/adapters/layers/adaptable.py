"""Which layers can be adapted, and how each is read as a matrix whose rows are rotated."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

Adaptable = nn.Linear | nn.Conv2d


def is_adaptable(module: nn.Module) -> TypeGuard[Adaptable]:
    """Whether `module` is a linear layer or a 2-D convolution whose own `forward` is run.

    `nn.MultiheadAttention` reads the weight of its output projection without running it, so a
    rotation there would be passed over in silence.
    """
    ignored = isinstance(module, NonDynamicallyQuantizableLinear)
    return isinstance(module, (nn.Linear, nn.Conv2d)) and not ignored


def dimensions(layer: Adaptable) -> tuple[int, int]:
    """Return the width d of the rows of the layer's weight matrix, and their number out.

    A row of a convolution is one filter, flattened: d = in / groups * kernel height * width. The
    groups of a grouped convolution share one rotation of their filters.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    height, width = layer.kernel_size
    return layer.in_channels // layer.groups * height * width, layer.out_channels


def is_plain(layer: Adaptable) -> bool:
    """Whether PEFT's rotated layers run `layer` as it is: they pass over half of its settings."""
    if isinstance(layer, nn.Linear):
        return True
    sides = (layer.kernel_size, layer.stride, layer.padding)
    alike = all(len(set(side)) == 1 for side in sides) and not isinstance(layer.padding, str)
    plain_geometry = (
        layer.dilation == (1, 1) and layer.padding_mode == "zeros" and layer.groups == 1
    )
    return alike and plain_geometry


def is_packed(layer: Adaptable) -> bool:
    """Whether the weight is stored in 8 or 4 bits, which only the layer itself can unpack."""
    d, out = dimensions(layer)
    return layer.weight.numel() != d * out or not layer.weight.is_floating_point()

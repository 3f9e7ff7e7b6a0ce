"""A frozen linear layer whose weight is rotated by a method."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orthodiff.adapters.base import Factors, Method


class AdaptedLayer(Protocol):
    """What a handle needs from an adapted layer, whoever made it."""

    base_layer: nn.Module

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""

    def penalty(self) -> Tensor | None:
        """Return the weighted scalar this layer adds to the loss, or None for nothing."""

    @property
    def merged(self) -> bool:
        """Whether the base weight now holds the adapted one."""

    def merge(self) -> None:
        """Put the adapted weight into the base layer, keeping the original aside."""

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""


class AdaptedLinear(nn.Module):
    """`y = x (diag(s) W R)^T + bias` around a frozen `nn.Linear` with weight W (out, d).

    The parameters are float32 whatever the base layer is; the maths that R depends on runs in float32
    (float64 parameters: float64), outside of autocast, and is applied in the activations' dtype.
    """

    base_layer: nn.Linear

    def __init__(
        self, base_layer: nn.Module, method: Method, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        assert isinstance(base_layer, nn.Linear)
        self.base_layer = base_layer
        self.method = method
        self.original_weight: Tensor | None = None
        out, d = base_layer.weight.shape
        start = method.start(d, out, generator=generator)
        self.parameter_names = tuple(start)
        for name, value in start.items():
            self.register_parameter(name, nn.Parameter(value.to(base_layer.weight.device)))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""
        return {name: self.get_parameter(name) for name in self.parameter_names}

    def prepared(self) -> tuple[Factors, Tensor | None]:
        """Return the method's factors and output scale, solved in at least float32."""
        parameters = {name: at_least_float32(p) for name, p in self.adapter_parameters().items()}
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.method.prepare(parameters), self.method.scale(parameters)

    def penalty(self) -> Tensor | None:
        """Return the weighted scalar this layer adds to the loss, or None for nothing."""
        return self.method.penalty(self.prepared()[0])

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output (..., out) for x (..., d)."""
        if self.merged:
            return self.base_layer(x)
        factors, scale = self.prepared()
        if scale is None and x.numel() // x.shape[-1] <= self.out_features:
            return self.base_layer(self.method.rotate(x, factors, inverse=True))
        return F.linear(x, self._adapted(self.weight, factors, scale), self.bias)

    def _adapted(self, weight: Tensor, factors: Factors, scale: Tensor | None) -> Tensor:
        rotated = self.method.rotate(weight, factors)
        return rotated if scale is None else scale.to(rotated.dtype) * rotated

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `diag(s) W R` (out, d), computed in at least float32 and rounded once to W's dtype."""
        weight = self.weight if self.original_weight is None else self.original_weight
        return self._adapted(at_least_float32(weight), *self.prepared()).to(weight.dtype)

    @property
    def merged(self) -> bool:
        """Whether the base weight now holds the adapted one."""
        return self.original_weight is not None

    def merge(self) -> None:
        """Put the adapted weight into the base layer, keeping the original aside."""
        if not self.merged:
            adapted = self.adapted_weight()
            self.original_weight, self.weight.data = self.weight.data, adapted

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""
        if self.original_weight is not None:
            self.weight.data = self.original_weight.to(self.weight.device, self.weight.dtype)
            self.original_weight = None

    # Callers look at these on a plain linear layer.

    @property
    def weight(self) -> nn.Parameter:
        """The base layer's weight (out, d)."""
        return self.base_layer.weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The base layer's bias (out,), if any."""
        return self.base_layer.bias

    @property
    def in_features(self) -> int:
        """Width d of the rows."""
        return self.base_layer.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.base_layer.out_features

    def extra_repr(self) -> str:
        """Show the settings when the model is printed."""
        return repr(self.method)


def at_least_float32(tensor: Any) -> Any:
    """Return the tensor in float32, or as it is in float32 and float64."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()

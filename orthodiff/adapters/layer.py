"""A frozen linear layer whose weight is rotated by a method."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orthodiff.adapters.base import Factors, Method, Parameters


class AdaptedLayer(Protocol):
    """What a handle needs from an adapted layer, whoever made it."""

    base_layer: Any
    strength: float

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

    The parameters are float32 whatever the base layer is. What R depends on is solved in float32
    (float64 for float64 parameters), outside of autocast, and applied in the activations' dtype.
    """

    base_layer: nn.Linear

    def __init__(self, base_layer: nn.Module, method: Method, parameters: Parameters) -> None:
        super().__init__()
        assert isinstance(base_layer, nn.Linear)
        self.base_layer = base_layer
        self.method = method
        self.original_weight: Tensor | None = None
        self.shared: SharedFactors | None = None
        self.strength = 1.0
        self.parameter_names = tuple(parameters)
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value.to(base_layer.weight.device)))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""
        return {name: self.get_parameter(name) for name in self.parameter_names}

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output (..., out) for x (..., d)."""
        if self.merged:
            return self.base_layer(x)
        factors, scale = self.factors(), self.scale()
        if x.numel() // x.shape[-1] > self.out_features:
            return F.linear(x, self._adapt(self.weight, factors, scale), self.bias)
        rotated = self.method.rotate(x, factors, inverse=True)
        if scale is None:
            return self.base_layer(rotated)
        output = F.linear(rotated, self.weight)
        output = output * scale.to(output.dtype).mT
        return output if self.bias is None else output + self.bias.to(output.dtype)

    def factors(self) -> Factors:
        """Return what `rotate` needs: from this pass's shared solve, else solved here."""
        if self.shared is not None and self.shared.hold_for(self):
            return self.shared.factors
        factors = solve(self.method, self.adapter_parameters())
        return factors if self.strength == 1 else self._power(factors)

    @torch.no_grad()
    def _power(self, factors: Factors) -> Factors:
        """Return the factors at this layer's strength, kept until parameters or strength change."""
        dtype = factors[0].dtype
        power = self.method.power(tuple(f.double() for f in factors), self.strength)
        self.shared = SharedFactors(tuple(f.to(dtype) for f in power), self, {"spent": False})
        return self.shared.factors

    def scale(self) -> Tensor | None:
        """Return the learned output scale (out, 1) at this layer's strength, or None."""
        scale = self.method.scale(self.adapter_parameters())
        return scale if scale is None or self.strength == 1 else 1 + self.strength * (scale - 1)

    def penalty(self) -> Tensor | None:
        """Return the weighted scalar this layer adds to the loss, or None for nothing."""
        return self.method.penalty(self.factors())

    def _adapt(self, weight: Tensor, factors: Factors, scale: Tensor | None) -> Tensor:
        rotated = self.method.rotate(weight, factors)
        return rotated if scale is None else scale.to(rotated.dtype) * rotated

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `diag(s) W R` (out, d), computed in at least float32 and rounded once."""
        weight = self.weight if self.original_weight is None else self.original_weight
        self.shared = None
        return self._adapt(at_least_float32(weight), self.factors(), self.scale()).to(weight.dtype)

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

    # What callers look at on a plain linear layer.

    @property
    def weight(self) -> Tensor:
        """The base layer's weight (out, d)."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
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

    def __getstate__(self) -> dict[str, Any]:
        """Leave this pass's factors out of pickles and deep copies."""
        return {**self.__dict__, "shared": None}


class SharedFactors:
    """One layer's part of the solve that all layers of a model share during one pass."""

    def __init__(self, factors: Factors, layer: AdaptedLinear, state: dict[str, bool]) -> None:
        self.factors = factors
        self.state = state
        self.versions = _versions(layer)

    def hold_for(self, layer: AdaptedLinear) -> bool:
        """Whether the factors still belong to the layer's parameters and can be used.

        After a backward pass their graph is gone. Only a checkpointed block that is computed again
        within that very pass may still read them, for their values.
        """
        spent = self.state["spent"] and torch._C._current_graph_task_id() == -1
        return not spent and self.versions == _versions(layer)


def _versions(layer: AdaptedLinear) -> list[int]:
    return [parameter._version for parameter in layer.adapter_parameters().values()]


def solve(method: Method, parameters: Parameters) -> Factors:
    """Return the method's factors, solved in at least float32 and outside of autocast."""
    device = next(iter(parameters.values())).device.type
    with torch.autocast(device, enabled=False):
        return method.prepare({name: at_least_float32(p) for name, p in parameters.items()})


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is in float32 and float64."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor

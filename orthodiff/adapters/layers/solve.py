"""One layer's solve: in float32 at least, and kept for as long as its parameters hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orthodiff.adapters.method import Factors, Method, Parameters

if TYPE_CHECKING:
    from orthodiff.adapters.layers.rotated import RotatedLayer


class SharedFactors:
    """One layer's part of the solve that all layers of a model share during one pass."""

    def __init__(self, factors: Factors, layer: RotatedLayer, state: dict[str, bool]) -> None:
        self.factors = factors
        self.state = state
        self.versions = _versions(layer)

    def hold_for(self, layer: RotatedLayer) -> bool:
        """Whether the factors still belong to the layer's parameters and can be used.

        After a backward pass their graph is gone. Only a checkpointed block that is computed again
        within that very pass may still read them, for their values.
        """
        spent = self.state["spent"] and torch._C._current_graph_task_id() == -1
        return not spent and self.versions == _versions(layer)


def _versions(layer: RotatedLayer) -> list[int]:
    return [parameter._version for parameter in layer.adapter_parameters().values()]


def solve(method: Method, parameters: Parameters) -> Factors:
    """Return the method's factors, solved in at least float32."""
    with torch.autocast(next(iter(parameters.values())).device.type, enabled=False):
        return method.prepare({name: at_least_float32(p) for name, p in parameters.items()})


def arrange(method: Method, factors: Factors) -> Factors:
    """Return the factors as `rotate` applies them fastest, in the precision they were solved in."""
    with torch.autocast(factors[0].device.type, enabled=False):
        return method.arrange(factors)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is in float32 and float64."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor

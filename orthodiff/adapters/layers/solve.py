"""Solved factors: in float32 at least, kept for as long as their parameters hold, cast once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from orthodiff.adapters.rotation import Factors, Parameters, Rotation


class GroupFactors:
    """The factors of one or several layers, solved as one batch.

    They are cast and taken apart once for all layers: one kernel a group instead of one a layer.
    """

    def __init__(self, batches: Factors) -> None:
        self._batches = batches
        self._parts: dict[Any, list[Factors]] = {}
        self._spent = False
        self.has_graph = any(batch.requires_grad for batch in batches)
        for batch in batches:
            if batch.requires_grad:
                batch.register_hook(self._spend)

    def _spend(self, _: Tensor) -> None:
        self._spent = True

    @property
    def is_spent(self) -> bool:
        """Whether a backward pass has gone through the solve, and is over.

        Its graph is gone then. Only a checkpointed block that is computed again within that very
        pass may still read the factors, for their values.
        """
        return self._spent and torch._C._current_graph_task_id() == -1

    def of(self, number: int, dtype: torch.dtype | None) -> Factors:
        """Return the factors of one layer, in this dtype or as solved."""
        # What is cast without gradients is no use to a pass that wants them.
        key = dtype, torch.is_grad_enabled()
        if key not in self._parts:
            batches = self._batches if dtype is None else [b.to(dtype) for b in self._batches]
            self._parts[key] = list(zip(*(b.unbind() for b in batches), strict=True))
        return self._parts[key][number]


class SharedFactors:
    """One layer's place in a group's solve, and the versions of the parameters it is of."""

    def __init__(
        self,
        group: GroupFactors,
        number: int,
        parameters: Iterable[Tensor],
        *,
        trainable: bool = True,
    ) -> None:
        self.group, self.number, self.trainable = group, number, trainable
        self.versions = _versions(parameters)
        self.graph_inputs: Factors | None = None
        """Plain tensors for compiled code, which reads nothing else here: see `provide`."""

    def hold_for(self, parameters: Iterable[Tensor]) -> bool:
        """Whether the factors still belong to these parameters and can be used.

        Those that were solved without gradients are no use to a pass that asks for them.
        """
        parameters = list(parameters)
        asks = self.trainable and torch.is_grad_enabled()
        if asks and not self.group.has_graph and any(p.requires_grad for p in parameters):
            return False
        return not self.group.is_spent and self.versions == _versions(parameters)

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """Return the factors, in this dtype or as solved."""
        return self.group.of(self.number, dtype)

    def provide(self, dtype: torch.dtype) -> None:
        """Hold the factors in this dtype ready for compiled code, as inputs of its graph.

        A tensor that an attribute holds becomes an input, whose values may be others at every call.
        The numbers and look-ups behind `factors` would be constants, and each layer a graph.
        """
        self.graph_inputs = self.factors(dtype)


def _versions(parameters: Iterable[Tensor]) -> list[int]:
    return [parameter._version for parameter in parameters]


def solve(method: Rotation, parameters: Parameters) -> Factors:
    """Return the method's factors, solved in at least float32."""
    with torch.autocast(_device_type(parameters), enabled=False):
        return method.prepare({name: at_least_float32(p) for name, p in parameters.items()})


def arrange(method: Rotation, factors: Factors) -> Factors:
    """Return the factors as `rotate` applies them fastest, in the precision they were solved in."""
    with torch.autocast(factors[0].device.type, enabled=False):
        return method.arrange(factors)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is in float32 and float64."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _device_type(parameters: Mapping[str, Tensor]) -> str:
    return next(iter(parameters.values())).device.type

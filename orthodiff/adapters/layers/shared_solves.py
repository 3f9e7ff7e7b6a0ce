"""The solves of all layers of a model, done together in a few batched calls a pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.layers.solve import SharedFactors, arrange, solve
from orthodiff.ops.held import held_period


class SharedSolves:
    """Hooks on a model: solve before a pass, for every group of layers of one shape in one call.

    A pass without gradients forgets the factors at its end, unless parameters are promised to stay
    (`ops.held`): then the first pass solves for all. One with gradients keeps them until the
    next pass, because checkpointed blocks are computed again during the backward pass (with torch's
    `use_reentrant=False`, diffusers' default). Layers called on their own, or under
    `torch.compile`, solve for themselves.
    """

    def __init__(self, model: nn.Module, layers: Iterable[RotatedLayer]) -> None:
        self.layers = list(layers)
        self.period: object | None = None
        self.handles = [
            model.register_forward_pre_hook(self.before),
            model.register_forward_hook(self.after, always_call=True),
        ]

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self.handles:
            handle.remove()
        self.forget()

    def before(self, model: nn.Module, inputs: Any) -> None:
        """Solve for all layers at the start of a pass."""
        if torch.compiler.is_compiling() or self._still_solved():
            return
        self.period = None if torch.is_grad_enabled() else held_period()
        groups: dict[Any, list[RotatedLayer]] = defaultdict(list)
        for layer in self.layers:
            if not layer.merged and layer.strength == 1:
                groups[_kind(layer)].append(layer)
        for layers in groups.values():
            _solve_together(layers)

    def after(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """Forget the factors of a pass that nothing can go back through."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        if self.period is None or self.period is not held_period():
            for layer in self.layers:
                if layer.strength == 1:
                    layer.shared = None

    def _still_solved(self) -> bool:
        """Whether an earlier pass solved for all layers, and parameters were promised to stay."""
        if torch.is_grad_enabled() or self.period is None or self.period is not held_period():
            return False
        return all(
            layer.merged or (layer.shared is not None and layer.shared.hold_for(layer))
            for layer in self.layers
            if layer.strength == 1
        )

    def forget(self) -> None:
        """Forget all factors."""
        self.period = None
        for layer in self.layers:
            layer.shared = None


def _kind(layer: RotatedLayer) -> Any:
    """Return what layers must have in common to be solved together."""
    parameters = layer.adapter_parameters().values()
    return tuple((p.shape, p.dtype, p.device, p.requires_grad) for p in parameters)


def _solve_together(layers: list[RotatedLayer]) -> None:
    names = layers[0].parameter_names
    stacked = {name: torch.stack([getattr(layer, name) for layer in layers]) for name in names}
    state = {"spent": False}
    method = layers[0].method
    batches = arrange(method, solve(method, stacked))
    _mark_when_spent(batches, state)
    for layer, factors in zip(
        layers, zip(*(b.unbind() for b in batches), strict=True), strict=True
    ):
        layer.shared = SharedFactors(factors, layer, state)


def _mark_when_spent(batches: Iterable[Tensor], state: dict[str, bool]) -> None:
    """Note in `state` when a backward pass has gone through the batched solve."""

    def spend(_: Tensor) -> None:
        state["spent"] = True

    for batch in batches:
        if batch.requires_grad:
            batch.register_hook(spend)

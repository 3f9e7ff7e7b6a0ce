"""The solves of all layers of a model, done together in a few batched calls a pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.layers.solve import GroupFactors, SharedFactors, arrange, solve
from orthodiff.ops.held import held_period
from orthodiff.ops.orthogonal import compute_dtype


class SharedSolves:
    """Hooks on a model: solve before a pass, for every group of layers of one shape in one call.

    A pass without gradients forgets the factors at its end, unless parameters are promised to stay
    (`ops.held`): then the first pass solves for all. One with gradients keeps them until the
    next pass, because checkpointed blocks are computed again during the backward pass (with torch's
    `use_reentrant=False`, diffusers' default).

    Compiled layers take the factors as inputs of their graphs where `compile_model` asked for it.
    Otherwise, and where layers are called on their own, they solve for themselves.
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
        if torch.compiler.is_compiling():  # the hook is part of a graph, so nothing was solved yet
            for layer in self.layers:
                if layer.takes_graph_inputs:
                    layer.shared = None
            return
        if self._still_solved():
            return
        self.period = None if torch.is_grad_enabled() else held_period()
        layers = [each for each in self.layers if not each.merged and each.strength == 1]
        for group in groups(layers):
            _solve_together(group)

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
        return all(layer.merged or layer.is_solved for layer in self.layers if layer.strength == 1)

    def forget(self) -> None:
        """Forget all factors."""
        self.period = None
        for layer in self.layers:
            layer.shared = None

    def penalty(self) -> Tensor | None:
        """Return what the layers add to the loss, group by group, or None if nothing."""
        sums = [
            value
            for group in groups(self.layers)
            if (value := group[0].method.penalty(stacked(group))) is not None
        ]
        return torch.stack(sums).sum() if sums else None


def groups(layers: Iterable[RotatedLayer]) -> list[list[RotatedLayer]]:
    """Return the layers by what they must have in common to be computed together."""
    by_kind: dict[Any, list[RotatedLayer]] = defaultdict(list)
    for layer in layers:
        parameters = layer.adapter_parameters().values()
        # offloaded parameters are there only while their own layer runs
        if not any(p.is_meta and hasattr(layer, "_hf_hook") for p in parameters):
            kind = tuple((p.shape, p.dtype, p.device, p.requires_grad) for p in parameters)
            by_kind[kind].append(layer)
    return list(by_kind.values())


def stacked(layers: list[RotatedLayer]) -> dict[str, Tensor]:
    """Return the parameters of layers of one kind with a leading axis over the layers."""
    names = layers[0].parameter_names
    return {name: torch.stack([getattr(layer, name) for layer in layers]) for name in names}


def _solve_together(layers: list[RotatedLayer]) -> None:
    method = layers[0].method
    group = GroupFactors(arrange(method, solve(method, stacked(layers))))
    for number, layer in enumerate(layers):
        layer.shared = SharedFactors(group, number, layer.adapter_parameters().values())
        if layer.takes_graph_inputs:
            layer.shared.provide(compute_dtype(layer.base_layer.weight))

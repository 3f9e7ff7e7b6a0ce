"""Adapt layers of a model chosen by name, and hold them by one handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from orthodiff.adapters.checks import check_tensors, naming
from orthodiff.adapters.layers.adaptable import dimensions
from orthodiff.adapters.layers.rotated import AdaptedLayer, RotatedLayer
from orthodiff.adapters.layers.shared_solves import SharedSolves
from orthodiff.adapters.layers.solve import solve
from orthodiff.adapters.method import Method
from orthodiff.adapters.targets import ATTENTION, adaptable_layers, find_targets
from orthodiff.errors import UserError


class Adapter:
    """The adapted layers of a model: their parameters, and the ways to keep or remove them.

    Made by `attach` and `load`. Pickle or deep-copy the pair `(model, adapter)` together to get a
    handle on the copy.
    """

    def __init__(
        self, model: nn.Module, method: Method, layers: Mapping[str, AdaptedLayer]
    ) -> None:
        self.model = model
        self.method = method
        self.layers = dict(layers)
        self._share_solves()
        self._strength = 1.0

    def _share_solves(self) -> None:
        own = [layer for layer in self.layers.values() if isinstance(layer, RotatedLayer)]
        self._shared = SharedSolves(self.model, own)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by `layer.parameter` name."""
        return {
            f"{layer_name}.{name}": parameter
            for layer_name, layer in self.layers.items()
            for name, parameter in layer.adapter_parameters().items()
        }

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters, in the order of the model's layers."""
        return list(self.named_parameters().values())

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def changed(self) -> None:
        """Forget what was solved from parameters before: fused optimizers leave no trace in them.

        A pass through the model solves anew by itself; layers called on their own need it.
        """
        self._shared.forget()

    def regularizer(self) -> Tensor:
        """Return what the method adds to the loss: a weighted scalar, zero unless switched on."""
        penalties = [p for layer in self.layers.values() if (p := layer.penalty()) is not None]
        return torch.stack(penalties).sum() if penalties else self.parameters()[0].new_zeros(())

    @property
    def strength(self) -> float:
        """How far the layers turn: every angle times this number, orthogonal at every value.

        0 is the base model, 1 the adapter as trained, -1 its inverse (for BOFT only with a single
        factor). LoRA's matrix is multiplied by it. Train at 1: other strengths carry no gradient.
        """
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self.method.check_strength(strength)
        merged = self.merged
        self.unmerge()
        self._strength = float(strength)
        for layer in self.layers.values():
            layer.strength = self._strength
        self._shared.forget()
        if merged:
            self.merge()

    @torch.no_grad()
    def rotation_angles(self) -> dict[str, Tensor]:
        """Return by layer the angles it turns by at full strength, in radians, largest first.

        HRA: of R within the span of its reflections. OFT and BOFT: of every block.

        Raises:
            UserError: for LoRA, which does not rotate.
        """
        return {
            name: self.method.angles(solve(self.method, dict(layer.adapter_parameters())))
            for name, layer in self.layers.items()
        }

    @property
    def merged(self) -> bool:
        """Whether the base weights now hold the adapted ones."""
        return any(layer.merged for layer in self.layers.values())

    def merge(self) -> None:
        """Put the adapted weights into the base layers, so that the model runs at its own speed.

        The original weights are kept until `unmerge`, which costs their memory once more.

        Raises:
            UserError: if the base model is quantized, which is left as it is.
        """
        try:
            for layer in self.layers.values():
                layer.merge()
        except UserError:
            self.unmerge()
            raise

    def unmerge(self) -> None:
        """Put the original weights back: the very same numbers, however often it is done."""
        for layer in self.layers.values():
            layer.unmerge()

    def attach(self) -> None:
        """Put the adapted layers into the model again after `detach`.

        Raises:
            UserError: if another adapter is attached.
        """
        if not self.attached:
            adaptable_layers(self.model)
            for name, layer in self.layers.items():
                _replace(self.model, name, cast(nn.Module, layer))
            self._share_solves()

    @property
    def attached(self) -> bool:
        """Whether the model holds the adapted layers."""
        return all(self.model.get_submodule(name) is layer for name, layer in self.layers.items())

    def detach(self, *, merged: bool = False) -> None:
        """Give the model its original layers back: the same objects with the same weights.

        With `merged`, merged weights stay in them for good. The handle keeps the parameters: it can
        still be saved, and attached again.
        """
        if merged:
            for layer in self.layers.values():
                layer.keep_merged()
        self.unmerge()
        self._shared.remove()
        for name, layer in self.layers.items():
            if self.model.get_submodule(name) is layer:
                _replace(self.model, name, layer.base_layer)

    def inverse(self) -> Adapter:
        """Return the adapter of R^T in this one's place; see `algebra.inverse`."""
        from orthodiff.adapters.algebra import inverse

        return inverse(self)

    def save(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the adapter to `folder` in PEFT's layout; see `peft_format.save`."""
        from orthodiff.adapters.peft_format import save

        save(self, folder, base=base, metadata=metadata)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the parameters by name, for a trainer's own checkpoints."""
        return {name: p.detach().clone() for name, p in self.named_parameters().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set all parameters from `state_dict`'s form; nothing changes if anything does not fit.

        Raises:
            UserError: if the adapter is merged, or names or shapes differ, naming the first.
        """
        if self.merged:
            raise UserError("The adapter is merged. Call `unmerge()` before loading a state.")
        parameters = self.named_parameters()
        check_tensors(state, {k: tuple(p.shape) for k, p in parameters.items()}, "The saved state")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def attach(
    model: nn.Module,
    method: Method,
    *,
    targets: str | Iterable[str] = ATTENTION,
    generator: torch.Generator | None = None,
) -> Adapter:
    """Freeze `model`, adapt the layers that `targets` name, and return the handle on them.

    A target is the end of a linear or convolution layer's dotted name (`to_q`, `attn1.to_q`) or a
    glob pattern (`down_blocks.*.to_q`); presets are `ATTENTION`, `ATTENTION_AND_GEGLU`,
    `TEXT_ATTENTION` and `ALL_LINEAR`. The start is drawn from `generator`, else from torch's global
    one, on the CPU, in float32 and in the order of the layers: the same seed gives the same bits.

    Raises:
        UserError: if a target names no such layer, or the settings do not fit a layer. The model
            is left untouched then.
    """
    adaptable = adaptable_layers(model)
    layers = {}
    for name in find_targets(adaptable, targets):
        with naming(name):
            start = method.start(*dimensions(adaptable[name]), generator=generator)
            layers[name] = method.wrap(adaptable[name], start)
    return install(model, method, layers)


def install(model: nn.Module, method: Method, layers: Mapping[str, AdaptedLayer]) -> Adapter:
    """Freeze `model`, put wrapped twins of its layers into it, and return the handle on them."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        _replace(model, name, cast(nn.Module, layer))
    return Adapter(model, method, layers)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    module.train(model.get_submodule(name).training)
    setattr(model.get_submodule(parent), child, module)

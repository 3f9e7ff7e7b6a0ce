"""The adapted layers of a model, held by one object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from orthodiff.adapters.algebra.elements import Element, element_of, inverse
from orthodiff.adapters.checks import check_tensors, naming, require_finite
from orthodiff.adapters.layers.adaptable import dimensions
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.layers.shared_solves import SharedSolves
from orthodiff.adapters.layers.solve import solve
from orthodiff.adapters.method import Method
from orthodiff.adapters.peft_format.save import save
from orthodiff.adapters.placement import base_layer_of, places_of, put
from orthodiff.adapters.rotation import Rotation
from orthodiff.adapters.targets import adaptable_layers, canonical_name
from orthodiff.errors import UserError


class Adapter:
    """The adapted layers of a model: their parameters, and the ways to keep or remove them.

    Made by `attach` and `load`. Pickle or deep-copy the pair `(model, adapter)` together to get an
    adapter of the copy.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        layers: Mapping[str, AdaptedLayer],
        places: Mapping[str, list[str]],
    ) -> None:
        self.model = model
        self.method = method
        self.layers = dict(layers)
        self._places = dict(places)
        self._share_solves()
        self._strength = 1.0

    def _share_solves(self) -> None:
        own = [layer for layer in self.layers.values() if isinstance(layer, RotatedLayer)]
        self._shared = SharedSolves(self.model, own)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by `layer.parameter` name."""
        return {
            f"{canonical_name(layer_name)}.{name}": parameter
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
        penalty = self._shared.penalty()
        return self.parameters()[0].new_zeros(()) if penalty is None else penalty

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
        merged, before = self.merged, self._strength
        self.unmerge()
        self._set_strength(float(strength))
        if merged:
            try:
                self.merge()
            except BaseException:
                self._set_strength(before)
                self.merge()
                raise

    def _set_strength(self, strength: float) -> None:
        self._strength = strength
        for layer in self.layers.values():
            layer.strength = strength
        self._shared.forget()

    @torch.no_grad()
    def rotation_angles(self) -> dict[str, Tensor]:
        """Return by layer the angles it turns by at full strength, in radians, largest first.

        HRA: of R within the span of its reflections. OFT and BOFT: of every block.

        Raises:
            UserError: for LoRA, which does not rotate, or if the parameters are not finite.
        """
        method = self.method
        if not isinstance(method, Rotation):
            raise UserError(
                f"{method.name} adds to the weights and does not rotate them, so it has no angles."
            )
        if type(method).angles is Rotation.angles:
            raise UserError(f"{method.name} does not say by which angles it turns.")
        angles = {}
        for name, layer in self.layers.items():
            with naming(name):
                require_finite(layer.adapter_parameters(), "The adapter")
            angles[name] = method.angles(solve(method, layer.adapter_parameters()))
        return angles

    @property
    def merged(self) -> bool:
        """Whether the base weights now hold the adapted ones."""
        return any(layer.merged for layer in self.layers.values())

    def merge(self) -> None:
        """Put the adapted weights into the base layers, so that the model runs at its own speed.

        The original weights are kept until `unmerge`, which costs their memory once more.

        Raises:
            UserError: if a layer's weight is out of reach, as it is quantized or computed from
                others, or the parameters are not finite. The model is left as it is then.
        """
        fresh = [(name, layer) for name, layer in self.layers.items() if not layer.merged]
        try:
            for name, layer in fresh:
                with naming(name):
                    layer.merge()
        except BaseException:
            for _, layer in fresh:
                layer.unmerge()
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
                put(self.model, self._places[name], cast(nn.Module, layer))
            self._share_solves()

    @property
    def attached(self) -> bool:
        """Whether the model holds the adapted layers."""
        return all(self.model.get_submodule(name) is layer for name, layer in self.layers.items())

    def detach(self, *, merged: bool = False) -> None:
        """Give the model its original layers back: the same objects with the same weights.

        With `merged`, merged weights stay in them for good. The adapter keeps its parameters: it
        can still be saved, and attached again.
        """
        if merged:
            for layer in self.layers.values():
                layer.keep_merged()
        self.unmerge()
        self._shared.remove()
        for name, layer in self.layers.items():
            if self.model.get_submodule(name) is layer:
                put(self.model, self._places[name], layer.base_layer)

    def inverse(self) -> Adapter:
        """Return the adapter of R^T in this one's place: it takes away what this one does.

        It is for this one's strength. HRA's reflections are reversed, OFT's generators negated; a
        butterfly becomes a chain.

        Raises:
            UserError: for LoRA, which does not rotate.
        """
        inverted = {}
        for name, layer in self.layers.items():
            with naming(name):
                inverted[name] = inverse(element_of(self.method, layer, self.strength))
        return replace(self, None, inverted)

    def save(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the adapter to `folder` in PEFT's layout, merged or not, for `load` and for PEFT.

        `base` is the base model's folder or hub id; `metadata` is kept in the weights' header. A
        new folder appears complete or not at all; in an existing one each file is replaced in one
        step, the weights first, and other files stay.

        Raises:
            UserError: if `folder` is a file, or the parameters are not finite.
        """
        save(self.model, self.method, self.layers, folder, base=base, metadata=metadata)

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


def install(model: nn.Module, method: Method, layers: Mapping[str, AdaptedLayer]) -> Adapter:
    """Freeze `model`, put wrapped twins of its layers into it, and return the adapter.

    A layer that the model has under several names is replaced at each of them.
    """
    places = places_of(model, {name: layer.base_layer for name, layer in layers.items()})
    model.requires_grad_(False)
    for name, layer in layers.items():
        put(model, places[name], cast(nn.Module, layer))
    return Adapter(model, method, layers, places)


def replace(a: Adapter, b: Adapter | None, elements: Mapping[str, Element]) -> Adapter:
    """Put the rotations `elements` by layer into the model of `a` in its place, and detach `b`.

    Raises:
        UserError: if one does not fit its layer, or the model has no such layer; nothing is changed
            then.
    """
    bases = {name: base_layer_of(a.model, name) for name in elements}
    dtype = a.parameters()[0].dtype
    layers = {}
    for name, (method, parameters) in elements.items():
        with naming(name):
            method.shapes(*dimensions(bases[name]))
            own = {key: p.to(dtype).contiguous() for key, p in parameters.items()}
            layers[name] = method.wrap(bases[name], own)
    a.detach()
    if b is not None and b.model is a.model:
        b.detach()
    method = next(iter(elements.values()))[0]
    adaptable_layers(a.model)
    ordered = {n: layers[n] for n, _ in a.model.named_modules() if n in layers}
    return install(a.model, method, ordered)

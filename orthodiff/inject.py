"""Adapt layers of a model chosen by name, and hold them by one handle."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from orthodiff.adapters.base import Method
from orthodiff.adapters.layer import AdaptedLayer
from orthodiff.errors import UserError

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections of diffusers' UNets: the papers' subject recipe."""
ATTENTION_AND_GEGLU = (*ATTENTION, "ff.net.0.proj")
"""The same and the gated feed-forward projection: the papers' control recipe."""
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention projections of transformers' CLIP text encoders."""
ALL_LINEAR = ("*",)
"""Every linear layer."""


class Adapter:
    """The adapted layers of a model: their parameters, and the ways to keep or remove them.

    Made by `attach` and `load`. Pickling or deep-copying needs nothing special; copy the pair
    `(model, adapter)` together to get a handle on the copy.
    """

    def __init__(
        self, model: nn.Module, method: Method, layers: Mapping[str, AdaptedLayer]
    ) -> None:
        self.model = model
        self.method = method
        self.layers = dict(layers)

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

    def regularizer(self) -> Tensor:
        """Return what the method adds to the loss, a weighted scalar: zero unless it is switched on."""
        penalties = [p for layer in self.layers.values() if (p := layer.penalty()) is not None]
        return torch.stack(penalties).sum() if penalties else self.parameters()[0].new_zeros(())

    @property
    def merged(self) -> bool:
        """Whether the base weights now hold the adapted ones."""
        return any(layer.merged for layer in self.layers.values())

    def merge(self) -> None:
        """Put the adapted weights into the base layers, so that the model runs at its own speed.

        The original weights are kept until `unmerge`, which costs their memory once more.
        """
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Put the original weights back: the very same numbers, however often it is done."""
        for layer in self.layers.values():
            layer.unmerge()

    def detach(self) -> None:
        """Give the model its original layers back: the same objects with the same weights."""
        self.unmerge()
        for name, layer in self.layers.items():
            _replace(self.model, name, layer.base_layer)
        self.layers = {}

    def save(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write PEFT's `adapter_config.json` and `adapter_model.safetensors` to `folder`; see `checkpoint.save`."""
        from orthodiff.checkpoint import save

        save(self, folder, base=base, metadata=metadata)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the parameters by name, for a trainer's own checkpoints."""
        return {name: p.detach().clone() for name, p in self.named_parameters().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set all parameters from `state_dict`'s form; nothing is changed if anything does not fit.

        Raises:
            UserError: if names or shapes differ, naming the first that does.
        """
        parameters = self.named_parameters()
        check_same_tensors(state, parameters, what="The saved state")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def attach(
    model: nn.Module,
    method: Method,
    *,
    targets: str | Iterable[str] = ATTENTION,
    generator: torch.Generator | None = None,
) -> Adapter:
    """Freeze `model`, adapt the linear layers that `targets` name, and return the handle on them.

    A target is the end of a layer's dotted name (`to_q`, `attn1.to_q`, `mid_block.attentions.0.proj_in`) or
    a glob pattern (`down_blocks.*.to_q`); presets are `ATTENTION`, `ATTENTION_AND_GEGLU`,
    `TEXT_ATTENTION` and `ALL_LINEAR`. The start is drawn from `generator`, else from torch's global
    one, on the CPU in float32 and in the order of the layers: the same seed gives the same bits.

    Raises:
        UserError: if a target names no linear layer, or the settings do not fit a layer. The model is
            left untouched then.
    """
    names = find_targets(model, targets)
    return install(model, method, wrap_layers(model, method, names, generator=generator))


def find_targets(model: nn.Module, targets: str | Iterable[str]) -> list[str]:
    """Return the names of the linear layers that `targets` select, in the model's order.

    Raises:
        UserError: if a target selects nothing (close names are listed) or the model is adapted already.
    """
    patterns = (targets,) if isinstance(targets, str) else tuple(targets)
    modules = dict(model.named_modules())
    if any(hasattr(module, "adapter_parameters") for module in modules.values()):
        raise UserError("The model is adapted already. Call `detach()` on its adapter first.")
    linear = [name for name, module in modules.items() if name and isinstance(module, nn.Linear)]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in linear):
            raise UserError(_unknown_target(pattern, linear))
    found = [name for name in linear if any(_matches(name, pattern) for pattern in patterns)]
    if not found:
        raise UserError(
            "`targets` is empty, so there is nothing to adapt. Name at least one layer."
        )
    return found


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _unknown_target(pattern: str, names: list[str]) -> str:
    ends = {".".join(name.split(".")[-k:]) for name in names for k in (1, 2)}
    close = difflib.get_close_matches(pattern, sorted(ends), n=3, cutoff=0.5)
    remedy = (
        f"Did you mean {' or '.join(close)}?"
        if close
        else f"Linear layers are for example {', '.join(names[:3])}."
    )
    return f"`targets` has {pattern!r}, but the model has no linear layer of that name. {remedy}"


def wrap_layers(
    model: nn.Module,
    method: Method,
    names: Iterable[str],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, AdaptedLayer]:
    """Return adapted twins of the named layers without putting them into the model.

    Raises:
        UserError: if the settings do not fit a layer, naming it.
    """
    layers = {}
    for name in names:
        try:
            layers[name] = method.wrap(model.get_submodule(name), generator=generator)
        except UserError as error:
            raise UserError(f"Layer {name}: {error}") from None
    return layers


def install(model: nn.Module, method: Method, layers: Mapping[str, AdaptedLayer]) -> Adapter:
    """Freeze `model`, put the adapted layers into it, and return the handle on them."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        _replace(model, name, cast(nn.Module, layer))
    return Adapter(model, method, layers)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    module.train(model.training)
    setattr(model.get_submodule(parent), child, module)


def check_same_tensors(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, what: str
) -> None:
    """Refuse tensors whose names or shapes differ from what is wanted, or that are not finite.

    Raises:
        UserError: naming the first tensor that differs, and both shapes.
    """
    if missing := sorted(wanted.keys() - given.keys()):
        raise UserError(
            f"{what} lacks {missing[0]} (and {len(missing) - 1} more). It is not complete, or belongs to another model."
        )
    if extra := sorted(given.keys() - wanted.keys()):
        raise UserError(
            f"{what} has {extra[0]} (and {len(extra) - 1} more), which fits nothing here. It belongs to another model or method."
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            raise UserError(
                f"{what} has {name} of shape {tuple(given[name].shape)}, but this model needs "
                f"{tuple(tensor.shape)}. It belongs to another base model."
            )
        if not torch.isfinite(given[name]).all():
            raise UserError(
                f"{what} has numbers that are not finite in {name}. It is damaged: train or download it again."
            )

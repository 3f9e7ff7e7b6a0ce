"""Choose layers of a model by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from orthodiff.adapters.layers.adaptable import Adaptable, is_adaptable
from orthodiff.errors import UserError

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections of diffusers' UNets: the papers' subject recipe."""
ATTENTION_AND_GEGLU = (*ATTENTION, "ff.net.0.proj")
"""The same and the gated feed-forward projection: the papers' control recipe."""
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention projections of transformers' CLIP text encoders."""
ALL_LINEAR = ("*",)
"""Every linear layer, and no convolution."""


FUSED = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
"""The projections that diffusers' `fuse_qkv_projections` leaves in place without using them."""


def adaptable_layers(model: nn.Module) -> dict[str, Adaptable]:
    """Return the linear and convolution layers of `model` by every name that they have.

    Raises:
        UserError: if the model is adapted already, by orthodiff or by PEFT.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if any(hasattr(module, "adapter_parameters") for module in modules.values()):
        raise UserError("The model is adapted already. Call `detach()` on its adapter first.")
    carrying = [name for name, m in modules.items() if hasattr(type(m), "get_base_layer")]
    if carrying:
        raise UserError(
            f"The model carries an adapter of PEFT or diffusers, for example in {carrying[0]}. "
            "Merge or unload it first (`unload_lora_weights`, `merge_and_unload`)."
        )
    return {name: m for name, m in modules.items() if name and is_adaptable(m)}


def find_targets(layers: Mapping[str, Adaptable], targets: str | Iterable[str]) -> list[str]:
    """Return the names of the layers that `targets` select, each once, in the model's order.

    `*` alone stands for every linear layer; convolutions are adapted where a target names them.

    Raises:
        UserError: if a target selects nothing (close names are listed) or there is none.
    """
    patterns = _patterns(targets)
    chosen: set[int] = set()
    for pattern in patterns:
        selected = {id(layer) for name, layer in layers.items() if _matches(name, layer, pattern)}
        if not selected:
            raise UserError(_unknown_target(pattern, list(layers)))
        chosen |= selected
    first_names = _first_names(layers)
    return [
        name
        for name, layer in layers.items()
        if first_names[id(layer)] == name and id(layer) in chosen
    ]


def _first_names(layers: Mapping[str, Adaptable]) -> dict[int, str]:
    """Return the first name of every layer; a layer may have several."""
    names: dict[int, str] = {}
    for name, layer in layers.items():
        names.setdefault(id(layer), name)
    return names


def refuse_fused(model: nn.Module, names: Iterable[str]) -> None:
    """Refuse projections that their attention does not run, as it runs a fused copy of them.

    Raises:
        UserError: naming the first.
    """
    for name in names:
        parent, _, child = name.rpartition(".")
        if child in FUSED and getattr(model.get_submodule(parent), "fused_projections", False):
            raise UserError(
                f"Layer {name} is not run: its attention uses a fused copy of it. Call "
                "`unfuse_qkv_projections()` on the model first."
            )


def _patterns(targets: object) -> tuple[str, ...]:
    """Return the targets as patterns.

    Raises:
        UserError: if they are no names, or there is none.
    """
    given = (targets,) if isinstance(targets, str) else targets
    entries = tuple(given) if isinstance(given, Iterable) else (given,)
    patterns = tuple(entry for entry in entries if isinstance(entry, str))
    if len(patterns) < len(entries):
        raise UserError(
            f"`targets` is {targets!r}, but it must be names of layers. Use for example "
            "orthodiff.ATTENTION, or ('to_q', 'to_v')."
        )
    if not patterns:
        raise UserError("`targets` is empty, so there is nothing to adapt. Name a layer.")
    return patterns


def _matches(name: str, layer: Adaptable, pattern: str) -> bool:
    if pattern == "*":
        return not isinstance(layer, nn.Conv2d)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _unknown_target(pattern: str, names: list[str]) -> str:
    if not names:
        return (
            f"{pattern!r} is among the layers to adapt, but the model has no linear or convolution "
            "layer at all. Give the part of the model that holds them."
        )
    ends = {".".join(name.split(".")[-k:]) for name in names for k in (1, 2)}
    close = difflib.get_close_matches(pattern, sorted(ends), n=3, cutoff=0.5)
    remedy = (
        f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(names[:3])} ..."
    )
    return (
        f"{pattern!r} is among the layers to adapt, but the model has no linear or convolution "
        f"layer of that name. {remedy}"
    )


WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What torch's wrappers (`torch.compile`, FSDP, checkpointing) put into the names of layers."""
RENAMED = "text_model."
"""transformers' CLIP text encoders once had all layers in a part of this name."""


def canonical_name(name: str) -> str:
    """Return a layer's name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


class LayerNames:
    """Finds a model's layer by any name it may have in a file.

    Names depend on wrappers (`_orig_mod.`, `module.`) and on the version of transformers
    (`text_model.`); a file may have been saved with others than the model has here.
    """

    def __init__(self, layers: Mapping[str, Adaptable]) -> None:
        first_names = _first_names(layers)
        self._names = {name: first_names[id(layer)] for name, layer in layers.items()}
        for name, first in list(self._names.items()):
            for form in self._forms(name):
                self._names.setdefault(form, first)

    def find(self, name: str) -> str | None:
        """Return the model's name of a layer, or None if it has no such layer."""
        forms = (name, *self._forms(name))
        return next((self._names[form] for form in forms if form in self._names), None)

    @staticmethod
    def _forms(name: str) -> tuple[str, ...]:
        plain = canonical_name(name).removeprefix("module.")
        return plain, plain.removeprefix(RENAMED)

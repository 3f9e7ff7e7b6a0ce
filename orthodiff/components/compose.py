"""Several adapter sets on one base: a subject in a given pose, a style on a subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orthodiff.adapters.algebra.combine import compose
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import Component, components_in
from orthodiff.errors import UserError
from orthodiff.io.assets import shipped
from orthodiff.models import Base

SHARED = ("unet", "text_encoder", "text_encoder_2")
"""Components that can be composed; of each other there can be only one."""


def load_all(
    base: Base, folders: Sequence[Path], *, strength: float | Sequence[float] = 1.0
) -> AdapterSet:
    """Put the adapter sets in `folders` on `base`, composed: the first is applied first.

    Weights become `W R_first R_second ...`, each at `strength`, or at its own of several; swapping
    the folders gives other images.

    Raises:
        UserError: an adapter set cannot be used or composed; the base is left as it was.
    """
    folders = [shipped(folder) for folder in folders]
    refuse_doubles(folders)
    composed = AdapterSet(base, {})
    try:
        for folder, one in zip(folders, _strength_of_each(strength, len(folders)), strict=True):
            composed = _add(composed, folder, one)
    except BaseException:
        composed.detach()
        raise
    return composed


def _strength_of_each(strength: float | Sequence[float], count: int) -> Sequence[float]:
    return [strength] * count if isinstance(strength, int | float) else strength


def _add(below: AdapterSet, folder: Path, strength: float) -> AdapterSet:
    for adapter in below.adapters.values():
        adapter.detach()
    above = AdapterSet.load(below.base, folder)
    if strength != 1:
        above.strength = strength
    try:
        return AdapterSet(
            below.base, {**below.components, **above.components, **_composed(below, above)}
        )
    except BaseException:
        above.detach()
        raise


def _composed(below: AdapterSet, above: AdapterSet) -> dict[str, Component]:
    components: dict[str, Component] = {}
    try:
        for name, adapter in below.adapters.items():
            if name in above.adapters:
                components[name] = compose(adapter, above.adapters[name])
            else:
                adapter.attach()
    except BaseException:
        for component in components.values():
            component.detach()
        raise
    return components


def refuse_doubles(folders: Sequence[Path]) -> None:
    """Refuse sets that both hold what there can be only one of.

    Raises:
        UserError: naming both and what it is.
    """
    owner: dict[str, Path] = {}
    for folder in folders:
        for name in components_in(folder):
            if name in owner and name not in SHARED:
                what = "steered by control images" if name == "hint_encoder" else f"with {name}"
                raise UserError(
                    f"Both `{owner[name]}` and `{folder}` are {what}, and only one such adapter "
                    "can be used at a time. Leave one out."
                )
            owner.setdefault(name, folder)

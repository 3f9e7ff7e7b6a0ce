"""Two adapter sets blended on one base: every layer on the way from the one to the other."""

from __future__ import annotations

from pathlib import Path

from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.algebra.combine import interpolate
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.compose import refuse_doubles
from orthodiff.components.registry import Component
from orthodiff.errors import UserError
from orthodiff.io.assets import shipped
from orthodiff.models import Base


def load_blend(
    base: Base,
    folders: tuple[Path, Path],
    share: float,
    *,
    strength: tuple[float, float] = (1.0, 1.0),
) -> AdapterSet:
    """Put the adapter sets in two folders on `base`, blended: `share` 0 is the first, 1 the second.

    Each layer follows the geodesic between its two rotations (`interpolate`), so it is orthogonal
    at every share. A part that only one set adapts comes from the base, or fades out to it.

    Raises:
        UserError: a set cannot be used, or the two are not of one method and size; the base is
            left as it was.
    """
    first, second = (shipped(folder) for folder in folders)
    if not 0 <= share <= 1:
        raise UserError(f"`share` is {share}, but it must be from 0 to 1. Use for example 0.5.")
    refuse_doubles([first, second])
    below = _load(base, first, strength[0])
    for adapter in below.adapters.values():
        adapter.detach()
    try:
        above = _load(base, second, strength[1])
    except BaseException:
        below.detach()
        raise
    try:
        blended = _blended(below, above, share)
    except BaseException:
        above.detach()
        below.detach()
        raise
    return AdapterSet(base, {**below.components, **above.components, **blended})


def _load(base: Base, folder: Path, strength: float) -> AdapterSet:
    adapter_set = AdapterSet.load(base, folder)
    if strength != 1:
        adapter_set.strength = strength
    return adapter_set


def _blended(below: AdapterSet, above: AdapterSet, share: float) -> dict[str, Component]:
    components: dict[str, Component] = {}
    try:
        for name, adapter in below.adapters.items():
            other = above.adapters.get(name)
            components[name] = interpolate(adapter, other, share) if other else adapter
            if not other:
                _fade(adapter, 1 - share)
        for name, adapter in above.adapters.items():
            if name not in below.adapters:
                components[name] = adapter
                _fade(adapter, share)
    except BaseException:
        for component in components.values():
            component.detach()
        raise
    return components


def _fade(adapter: Adapter, share: float) -> None:
    """From the identity at 0 to the adapter as it is at 1."""
    adapter.attach()
    adapter.strength = adapter.strength * share

"""Two adapters made one: their product, and the way between them.

The result stands in the first adapter's model in that adapter's place. The adapters given are
detached from that model but keep their parameters: they can be saved, attached again, or combined
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from orthodiff.adapters.adapter import Adapter, replace
from orthodiff.adapters.algebra.elements import (
    Element,
    between,
    element_of,
    product,
    require_rotation,
)
from orthodiff.adapters.checks import naming
from orthodiff.adapters.layers.adaptable import dimensions
from orthodiff.errors import UserError


def compose(a: Adapter, b: Adapter) -> Adapter:
    """Return the adapter of weights `W R_a R_b`: `a` is applied first, then `b`; the order matters.

    That is merging `a`, then merging `b` into the result, each at its strength. Two HRA adapters
    become one whose rank is the sum; two OFT adapters of the same blocks one OFT adapter; others a
    chain. A layer that only one of them adapts is rotated by that one.

    Raises:
        UserError: if one is a LoRA, or they are for different models; nothing is changed then.
    """
    return _combine(a, b, product)


def interpolate(a: Adapter, b: Adapter, t: float) -> Adapter:
    """Return the adapter on the way from `a` (t = 0) to `b` (t = 1), orthogonal at every t.

    Every layer follows the geodesic `R_a (R_a^T R_b)^t`: for HRA within the span of all
    reflections, with the sum of both ranks; for OFT block by block. For BOFT each factor's blocks
    follow theirs, as the whole way is no butterfly. A layer that only one of them adapts
    starts from the base, or ends there.

    Raises:
        UserError: if they are not of one method and size (HRA: of even ranks), for different
            models, or `t` is not a finite number; nothing is changed then.
    """
    number = isinstance(t, int | float) and not isinstance(t, bool)
    if not number or not math.isfinite(t):
        raise UserError(f"`t` is {t!r}, but it must be a finite number. Use for example 0.5.")
    return _combine(a, b, lambda first, second: between(first, second, t))


def _combine(a: Adapter, b: Adapter, combine: Callable[[Element, Element], Element]) -> Adapter:
    for adapter in (a, b):
        if not isinstance(adapter, Adapter):
            raise UserError(f"{adapter!r} is no adapter. Give what `attach` or `load` returned.")
        require_rotation(adapter.method)
    combined = {}
    for name in dict.fromkeys([*a.layers, *b.layers]):
        with naming(name):
            first, second = _element(a, name, other=b), _element(b, name, other=a)
            combined[name] = combine(first, second)
    return replace(a, b, combined)


@torch.no_grad()
def _element(adapter: Adapter, name: str, *, other: Adapter) -> Element:
    """Return one layer's rotation, the identity where the layer is not adapted."""
    if name in adapter.layers:
        return element_of(adapter.method, adapter.layers[name], adapter.strength)
    method, _ = element_of(adapter.method, next(iter(adapter.layers.values())), adapter.strength)
    sizes = dimensions(other.layers[name].base_layer)
    try:
        start = method.start(*sizes, generator=torch.Generator().manual_seed(0))
    except UserError as error:
        raise UserError(
            f"Only one of the two adapters covers this layer, and the other cannot leave it as it "
            f"is: {error} Combine adapters of the same layers."
        ) from error
    return method, {key: p.double() for key, p in start.items()}

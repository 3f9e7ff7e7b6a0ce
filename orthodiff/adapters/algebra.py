"""Adapters as elements of the rotation group: product, inverse, and the way between two.

Every function puts its result into the first adapter's model in that adapter's place. The adapters
given are detached from that model but keep their parameters: they can be saved, attached again, or
combined again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from orthodiff.adapters.adapter import Adapter, install
from orthodiff.adapters.chain import Chain, Link
from orthodiff.adapters.checks import naming
from orthodiff.adapters.layers.adaptable import dimensions
from orthodiff.adapters.method import Method, Parameters
from orthodiff.adapters.targets import adaptable_layers
from orthodiff.errors import UserError

Baked = tuple[Method, Parameters]


def compose(a: Adapter, b: Adapter) -> Adapter:
    """Return the adapter of weights `W R_a R_b`: `a` is applied first, then `b`; the order matters.

    That is merging `a`, then merging `b` into the result, each at its strength. Two HRA adapters
    become one whose rank is the sum; two OFT adapters of the same blocks one OFT adapter; others a
    chain. A layer that only one of them adapts is turned by that one.

    Raises:
        UserError: if one is a LoRA, or they are for different models; nothing is changed then.
    """
    return _combine(a, b, _product)


def interpolate(a: Adapter, b: Adapter, t: float) -> Adapter:
    """Return the adapter on the way from `a` (t = 0) to `b` (t = 1), orthogonal at every t.

    Every layer follows the geodesic `R_a (R_a^T R_b)^t`: for HRA within the span of all
    reflections, with the sum of both ranks; for OFT block by block. For BOFT each factor's blocks
    follow theirs, as the whole way is no butterfly. A layer that only one of them adapts
    starts from the base, or ends there.

    Raises:
        UserError: if they are not of one method and size (HRA: of even ranks), or for different
            models; nothing is changed then.
    """

    def between(first: Baked, second: Baked) -> Baked:
        found = first[0].between(first[1], *second, t)
        if found is None:
            raise UserError(
                f"There is no way from {first[0]} to {second[0]}: both must be of one method, with "
                "the same settings or, for HRA, with even ranks. Compose them instead."
            )
        return found

    return _combine(a, b, between)


def inverse(adapter: Adapter) -> Adapter:
    """Return the adapter of R^T, which takes away what `adapter` does at its strength.

    HRA's reflections are reversed, OFT's generators negated; a butterfly becomes a chain.

    Raises:
        UserError: for LoRA, which does not rotate.
    """
    turned = {name: _inverse(_baked(adapter, name)) for name in adapter.layers}
    return _replace(adapter, None, turned)


def _product(first: Baked, second: Baked) -> Baked:
    joined = first[0].join(first[1], *second)
    if joined is not None:
        return joined
    (links_a, parts_a), (links_b, parts_b) = _links(first), _links(second)
    chain = Chain(links_a + links_b)
    return chain, chain.gather(parts_a + parts_b)


def _links(baked: Baked) -> tuple[tuple[Link, ...], list[Parameters]]:
    method, parameters = baked
    if isinstance(method, Chain):
        return method.links, [own for _, own in method.split(parameters)]
    return (Link(method),), [parameters]


def _inverse(baked: Baked) -> Baked:
    method, parameters = baked
    if isinstance(method, Chain):
        return method.turned_round(parameters)
    if (inverted := method.invert(parameters)) is not None:
        return method, inverted
    chain = Chain((Link(method, inverse=True),))
    return chain, chain.gather([parameters])


def _combine(a: Adapter, b: Adapter, combine: Callable[[Baked, Baked], Baked]) -> Adapter:
    names = dict.fromkeys([*a.layers, *b.layers])
    for adapter in (a, b):
        _baked(adapter, next(iter(adapter.layers)))  # what cannot be combined is so in all layers
    combined = {}
    for name in names:
        with naming(name):
            combined[name] = combine(_baked(a, name, other=b), _baked(b, name, other=a))
    return _replace(a, b, combined)


@torch.no_grad()
def _baked(adapter: Adapter, name: str, *, other: Adapter | None = None) -> Baked:
    """Return one layer's method and float64 parameters, of the identity where it is not adapted.

    They are on the CPU, wherever the two models are: the matrices are small.
    """
    if name in adapter.layers:
        parameters = adapter.layers[name].adapter_parameters()
        own = {key: p.detach().cpu().double() for key, p in parameters.items()}
        return adapter.method.bake_strength(own, adapter.strength)
    some = next(iter(adapter.layers))
    method, _ = _baked(adapter, some)
    assert other is not None
    sizes = dimensions(other.layers[name].base_layer)
    try:
        start = method.start(*sizes, generator=torch.Generator().manual_seed(0))
    except UserError as error:
        raise UserError(
            f"Only one of the two adapters covers this layer, and the other cannot leave it as it "
            f"is: {error} Combine adapters of the same layers."
        ) from error
    return method, {key: p.double() for key, p in start.items()}


def _replace(a: Adapter, b: Adapter | None, combined: dict[str, Baked]) -> Adapter:
    """Put the combined layers into a's model."""
    held = {name: _base_layer(a, name) for name in combined}
    dtype = a.parameters()[0].dtype
    layers = {}
    for name, (method, parameters) in combined.items():
        with naming(name):
            method.shapes(*dimensions(held[name]))
            own = {key: p.to(dtype).contiguous() for key, p in parameters.items()}
            layers[name] = method.wrap(held[name], own)
    a.detach()
    if b is not None and b.model is a.model:
        b.detach()
    method = next(iter(combined.values()))[0]
    adaptable_layers(a.model)
    ordered = {n: layers[n] for n, _ in a.model.named_modules() if n in layers}
    return install(a.model, method, ordered)


def _base_layer(adapter: Adapter, name: str) -> nn.Linear | nn.Conv2d:
    try:
        module = adapter.model.get_submodule(name)
    except AttributeError:
        raise UserError(
            f"The adapters are for different models: one has no layer {name}. "
            "Load both for one base."
        ) from None
    return cast(nn.Linear, getattr(module, "base_layer", module))

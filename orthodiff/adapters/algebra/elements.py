"""One layer's rotation as an element of the group: product, inverse, and the way between two."""

from __future__ import annotations

import torch
from torch import Tensor

from orthodiff.adapters.algebra.chain import Chain, Link
from orthodiff.adapters.checks import require_finite
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.adapters.method import Method
from orthodiff.adapters.rotation import Parameters
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.errors import UserError

Element = tuple[RotationMethod, Parameters]
"""A method at strength 1 and a layer's float64 parameters."""


@torch.no_grad()
def element_of(method: Method, layer: AdaptedLayer, strength: float) -> Element:
    """Return a layer's rotation at a strength.

    Its parameters are on the CPU, wherever the model is: the matrices are small.

    Raises:
        UserError: if the method does not rotate, or the parameters are not finite.
    """
    rotation = require_rotation(method)
    parameters: dict[str, Tensor] = dict(layer.adapter_parameters())
    require_finite(parameters, "The adapter")
    # copies, as parameters made under inference mode could be put into no other layer
    own = {key: p.detach().cpu().double() for key, p in parameters.items()}
    return rotation.bake_strength(own, strength)


def require_rotation(method: Method) -> RotationMethod:
    """Return the method if it rotates.

    Raises:
        UserError: if it does not.
    """
    if not isinstance(method, RotationMethod):
        raise UserError(
            f"{method.name} adapters add to the weights, so they cannot be combined with others. "
            "Use it alone, or train it again with hra, oft or boft."
        )
    return method


def product(first: Element, second: Element) -> Element:
    """Return `R_first R_second`: one method where they join, else a chain."""
    joined = first[0].join(first[1], *second)
    if joined is not None:
        return joined
    (links_a, parts_a), (links_b, parts_b) = _links(first), _links(second)
    chain = Chain(links_a + links_b)
    return chain, chain.gather(parts_a + parts_b)


def between(first: Element, second: Element, t: float) -> Element:
    """Return the rotation on the geodesic from the first (t = 0) to the second (t = 1).

    Raises:
        UserError: if they are not of one method and size, or HRA of an odd rank.
    """
    geodesic = first[0].between(first[1], *second, t)
    if geodesic is None:
        raise UserError(
            f"There is no way from {first[0]} to {second[0]}: both must be of one method, with "
            "the same settings or, for HRA, with even ranks. Compose them instead."
        )
    return geodesic


def inverse(element: Element) -> Element:
    """Return R^T: HRA's reflections reversed, OFT's generators negated, a butterfly as a chain."""
    method, parameters = element
    if isinstance(method, Chain):
        return method.turned_round(parameters)
    if (inverted := method.invert(parameters)) is not None:
        return method, inverted
    chain = Chain((Link(method, inverse=True),))
    return chain, chain.gather([parameters])


def _links(element: Element) -> tuple[tuple[Link, ...], list[Parameters]]:
    method, parameters = element
    if isinstance(method, Chain):
        return method.links, [own for _, own in method.split(parameters)]
    return (Link(method),), [parameters]

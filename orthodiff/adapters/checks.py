"""Checks of tensors and names, each told in one sentence: what, why, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from orthodiff.errors import UserError


def require_positive(name: str, value: object, *, example: int) -> None:
    """Refuse a setting that is not a whole number of at least 1.

    Raises:
        UserError: naming the setting, its value and an example that works.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(
            f"`{name}` is {value!r}, but it must be a whole number of at least 1. "
            f"Use for example {example}."
        )


def divisors(d: int, *, limit: int = 256) -> list[int]:
    """Return the divisors of d from 2 up to `limit`."""
    return [b for b in range(2, min(d, limit) + 1) if d % b == 0]


@contextmanager
def naming(layer: str) -> Iterator[None]:
    """Name the layer in any error told within.

    Raises:
        UserError: the one told within, after the layer's name.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"Layer {layer}: {error}") from None


def check_tensors(
    given: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Refuse tensors whose names or shapes differ from what is needed, or that are not finite.

    Raises:
        UserError: naming the first tensor that differs, and both shapes.
    """
    if missing := sorted(shapes.keys() - given.keys()):
        raise UserError(f"{what} lacks {missing[0]}. It is not complete, or of another model.")
    if extra := sorted(given.keys() - shapes.keys()):
        raise UserError(f"{what} has {extra[0]}, which fits nothing here. It is of another model.")
    for name, shape in shapes.items():
        if given[name].shape != shape:
            raise UserError(
                f"{what} has {name} of shape {tuple(given[name].shape)}, but this model needs "
                f"{shape}. It belongs to another base model, or to other settings."
            )
        if not given[name].is_floating_point():
            raise UserError(f"{what} has {name} of type {given[name].dtype}. It is damaged.")
    require_finite(given, what)


def require_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors with numbers that are not finite.

    Raises:
        UserError: naming the first of them.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{what} has numbers in {name} that are not finite. It is damaged, or its training "
                "diverged."
            )

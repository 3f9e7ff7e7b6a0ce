"""Checks of settings, each told in one sentence: argument and value, rule, remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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


def require_at_least_zero(name: str, value: object) -> None:
    """Refuse a setting that is not a finite number of at least 0.

    Raises:
        UserError: naming the setting and its value.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < float("inf"):  # type: ignore[arg-type]
        raise UserError(
            f"`{name}` is {value!r}, but it must be a number of at least 0. Use 0 for none."
        )


def require_share(name: str, value: object) -> None:
    """Refuse a setting that is not a number from 0 to below 1.

    Raises:
        UserError: naming the setting and its value.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < 1:  # type: ignore[arg-type]
        raise UserError(
            f"`{name}` is {value!r}, but it must be from 0 to below 1. Use for example 0.1."
        )


def divisors(d: int, *, limit: int = 256) -> list[int]:
    """Return the divisors of d from 2 up to `limit`."""
    return [b for b in range(2, min(d, limit) + 1) if d % b == 0]


def refuse_flags(config: Mapping[str, Any], *flags: str) -> None:
    """Refuse entries of PEFT's config that ask for something we do not do.

    Raises:
        UserError: naming the first such entry that is switched on.
    """
    for flag in flags:
        if config.get(flag):
            raise UserError(
                f"The adapter uses PEFT's `{flag}`, which orthodiff does not read. "
                "Load it with PEFT."
            )


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
        if not given[name].is_floating_point() or not given[name].isfinite().all():
            raise UserError(f"{what} has numbers in {name} that are not finite. It is damaged.")

"""Checks of settings, each told in one sentence: argument and value, rule, remedy."""

from __future__ import annotations

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


def divisors(d: int, *, limit: int = 256) -> list[int]:
    """Return the divisors of d from 2 up to `limit`."""
    return [b for b in range(2, min(d, limit) + 1) if d % b == 0]

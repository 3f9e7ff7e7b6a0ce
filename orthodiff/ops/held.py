"""A promise that parameters do not change for a while, so that what follows from them is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PERIOD: ContextVar[object | None] = ContextVar("period", default=None)


@contextmanager
def parameters_held() -> Iterator[None]:
    """Within, no parameter changes: an adapter is solved once, not at every pass of the model.

    Passes with gradients are not concerned.
    """
    token = _PERIOD.set(_PERIOD.get() or object())
    try:
        yield
    finally:
        _PERIOD.reset(token)


def held_period() -> object | None:
    """What identifies the present promise, or None without one."""
    return _PERIOD.get()

"""When Python looks for garbage: not among a million objects that stay until the process ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def uncollected(*, for_good: bool = False) -> Iterator[None]:
    """Within, nothing is collected: for libraries and weights, which arrive in order to stay.

    To look through them again and again while more arrive takes a second or two. With `for_good`
    they are not looked through later either: for a program that holds them until it ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if for_good:
            gc.freeze()
        if was_on:
            gc.enable()


def leave(code: int) -> NoReturn:
    """End the program; what it holds goes with it, unsorted, which saves a second or two."""
    gc.freeze()
    sys.exit(code)

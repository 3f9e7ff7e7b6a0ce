"""Memory that was freed, but that the C library keeps for itself."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_freed() -> None:
    """Give it back to the system, where the C library can (glibc); it takes some milliseconds.

    Weights that come and go leave holes: without this each adapter of a batch leaves its process a
    few megabytes larger.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

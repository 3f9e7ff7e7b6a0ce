"""Why a run failed, in one sentence that says what to do."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING

from orthodiff.errors import UserError

from .oom_hints import oom_hint

if TYPE_CHECKING:
    from ..options.config import RunConfig

GO_ON = "go on with --resume_from_checkpoint latest"


def explain(error: Exception, config: RunConfig) -> str:
    """One sentence that names the cause and the remedy, for a run of this `config`."""
    if isinstance(error, UserError | FloatingPointError):
        return _first_line(error)
    if is_out_of_memory(error):
        return f"out of memory: {oom_hint(config)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({_first_line(error)}): free some space, then {GO_ON}"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"the folder cannot be written ({_first_line(error)}): mend that, then {GO_ON}"
    if is_lost_peer(error):
        return f"another process of this run ended ({_first_line(error)}): see why, then {GO_ON}"
    text = _first_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_finite(what: str, value: float, *, step: int, rate: float) -> None:
    """Stop before a number that is none gets into what is learned.

    Raises:
        FloatingPointError: `value` is not finite.
    """
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {what} became {value} at step {step}; lower --learning_rate (it was {rate:g})"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device's memory or the computer's ran out."""
    known = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    signs = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc")
    return known or any(sign in str(error) for sign in signs)


def is_lost_peer(error: Exception) -> bool:
    """Whether the collective operations broke because another process is gone."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError"):
        return True
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]

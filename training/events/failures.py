"""Why a run failed, in one sentence that says what to do."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orthodiff.errors import UserError, explain_os_error

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
    if isinstance(error, OSError) and (sentence := explain_os_error(error)):
        return sentence
    if is_lost_peer(error):
        return f"another process of this run ended ({_first_line(error)}): see why, then {GO_ON}"
    text = _first_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_finite(quantity: str, value: float, *, step: int, learning_rate: float) -> None:
    """Stop before a number that is not finite gets into the parameters.

    Raises:
        FloatingPointError: `value` is not finite.
    """
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {quantity} became {value} at step {step}; "
            f"lower --learning_rate (it was {learning_rate:g})"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device's memory or the computer's ran out."""
    is_typed = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    signs = (
        "DefaultCPUAllocator: can't allocate memory",
        "std::bad_alloc",
        "MPS backend out of memory",
    )
    return is_typed or any(sign in str(error) for sign in signs)


def is_lost_peer(error: Exception) -> bool:
    """Whether the collective operations broke because another process is gone."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError"):
        return True
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


@dataclass(frozen=True)
class OomHint:
    """A `switch` that lowers the peak of memory by the share `saves`, while it `is_open`."""

    saves: float
    switch: Callable[[RunConfig], str]
    is_open: Callable[[RunConfig], bool]


OOM_HINTS = {
    "gradient_checkpointing": OomHint(
        0.473,
        lambda config: "--gradient_checkpointing",
        lambda config: not config.gradient_checkpointing,
    ),
    "train_batch_size": OomHint(
        0.492,
        lambda config: (
            "--train_batch_size 1 --gradient_accumulation_steps "
            f"{config.train_batch_size * config.gradient_accumulation_steps}"
        ),
        lambda config: config.train_batch_size > 1,
    ),
    "attention": OomHint(
        0.604,
        lambda config: "--attention sdpa",
        lambda config: config.attention == "math",
    ),
    "mixed_precision": OomHint(
        0.499,
        lambda config: "--mixed_precision bf16",
        lambda config: config.mixed_precision in (None, "no"),
    ),
    "resolution": OomHint(
        0.490,
        lambda config: "half the --resolution",
        lambda config: True,
    ),
}
"""Each alone, of the peak of a step: Stable Diffusion 1.5's UNet, HRA of rank 8, float32, batch 4
at 512 pixels, 9.36 GiB. Counted by `python -m benchmarks.memory_switches`.

Latents and prompts are cached in any case, so that neither autoencoder nor text encoder is there;
8-bit optimizers save next to nothing where only an adapter is learned.
"""


def oom_hint(config: RunConfig) -> str:
    """One clause that names the switches that are still off, the most helpful first."""
    still_off = [hint for hint in OOM_HINTS.values() if hint.is_open(config)]
    ordered = sorted(still_off, key=lambda hint: -hint.saves)
    switches = ", ".join(f"{hint.switch(config)} (saves {hint.saves:.0%})" for hint in ordered)
    return (
        f"these help, the most first: {switches}; go on with --resume_from_checkpoint latest, "
        "or afresh with another precision or resolution"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]

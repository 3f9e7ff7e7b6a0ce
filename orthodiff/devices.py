"""Devices and precisions by name."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor

from orthodiff.errors import UserError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HALF = (torch.float16, torch.bfloat16)


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """The precision for generating images: half on a GPU, float32 on a CPU."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.float16


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float16` as `float16`."""
    return str(dtype).removeprefix("torch.")


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        UserError: torch cannot use it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"`device` is {device!r}, which cannot be used here. Leave the flag out, or use cpu."
        ) from error


def autocast_like(tensor: Tensor) -> AbstractContextManager[object]:
    """Within, products of float32 parameters are computed in the half precision of `tensor`.

    An autocast that the caller has chosen stays as it is.
    """
    if torch.is_autocast_enabled(tensor.device.type):
        return nullcontext()
    is_half = tensor.dtype in HALF
    return torch.autocast(tensor.device.type, tensor.dtype if is_half else None, enabled=is_half)


def release_freed() -> None:
    """Give the system back what was freed but is kept by the C library, where that can (glibc).

    Weights that come and go leave holes: without this each adapter of a batch leaves its process a
    few megabytes larger. It takes some milliseconds.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

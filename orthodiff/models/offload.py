"""Where the parts of a base lie while they are not needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from orthodiff.errors import UserError

Offload = Literal["none", "model", "sequential"]
"""`none`: all on the device. `model`: text encoders, denoiser and autoencoder lie on the CPU, and
each is on the device only while it works. `sequential`: of the denoiser each layer by itself."""


@contextmanager
def on_device(parts: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Lend `parts` to `device` for the block, then put them back where they were."""
    homes = {part: next(part.parameters()).device for part in parts}
    away = {part: home for part, home in homes.items() if home != device}
    try:
        for part in away:
            part.to(device)
        yield
    finally:
        for part, home in away.items():
            part.to(home)


@contextmanager
def layers_on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block each layer of `model` is on `device` only while it works.

    Raises:
        UserError: accelerate is not installed.
    """
    try:
        from accelerate import cpu_offload
        from accelerate.hooks import remove_hook_from_submodules
    except ImportError as error:
        raise UserError(
            "`offload` is sequential, which needs accelerate. Run `pip install accelerate`, or "
            "use --offload model."
        ) from error
    cpu_offload(model, execution_device=device, offload_buffers=True)
    try:
        yield
    finally:
        remove_hook_from_submodules(model)

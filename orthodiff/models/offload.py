"""Where the parts of a base lie while they are not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from orthodiff.errors import UserError

Offload = Literal["none", "model", "sequential"]
"""`none`: all on the device. `model`: text encoders, denoiser and autoencoder lie on the CPU, and
each is on the device only while it works. `sequential`: of the denoiser each layer by itself."""


class Lending:
    """Lends parts to a device and puts them back where they were.

    Outside of a `stage` that is after each block of `lend`. Within one they stay until other parts
    come or the stage ends, so that a thousand prompts move the text encoders once, and those have
    left when the autoencoder comes.
    """

    def __init__(self) -> None:
        self._homes: dict[nn.Module, torch.device] = {}
        self._at_work: Counter[nn.Module] = Counter()
        self._stages = 0

    @contextmanager
    def lend(self, parts: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
        """Within the block `parts` are on `device`; idle ones leave it before."""
        self._send_home(but=parts)
        try:
            for part in parts:
                home = next(part.parameters()).device
                if home != device:
                    self._homes[part] = home
                    part.to(device)
            self._at_work.update(parts)
            try:
                yield
            finally:
                self._at_work.subtract(parts)
        finally:
            if not self._stages:
                self._send_home()

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Within the block parts that were lent stay until others come."""
        self._stages += 1
        try:
            yield
        finally:
            self._stages -= 1
            if not self._stages:
                self._send_home()

    def _send_home(self, but: Sequence[nn.Module] = ()) -> None:
        idle = [part for part in self._homes if not self._at_work[part] and part not in but]
        for part in idle:
            part.to(self._homes.pop(part))
        if idle and torch.accelerator.is_available():
            torch.accelerator.empty_cache()  # blocks cut for these parts fit no other


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

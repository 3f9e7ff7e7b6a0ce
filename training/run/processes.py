"""The processes of a run and their device, through accelerate, whatever its environment says."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from orthodiff.errors import UserError, first_line

from ..events.signals import is_launched
from .heartbeat import start_heartbeat

if TYPE_CHECKING:
    from accelerate import Accelerator

FOR_EVER = timedelta(days=3650)
"""How long processes wait for one another: class images, or a cache that only one of them lacks,
may take days. A process that is gone is noticed by its `heartbeat`."""
REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}
"""What accelerate's environment can switch on, and would shard here nothing or the wrong thing."""
INEFFECTIVE = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "--gradient_accumulation_steps"),
    "ACCELERATE_GRADIENT_CLIPPING": ("", "--max_grad_norm"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "--torch_compile"),
}
"""What has a flag here, by variable: the value that changes nothing, and the flag."""
PRECISIONS = ("no", "fp16", "bf16")


def start_accelerator(mixed_precision: str | None) -> Accelerator:
    """Find the device and the other processes; only the launcher's choice of these counts.

    Without a `mixed_precision` the launcher's is taken, and without that what the device does best:
    on a GPU bf16 where it has it, else fp16 with a loss scaler; elsewhere none. How gradients are
    accumulated is never read from the environment.

    Raises:
        UserError: the environment asks for sharding, or for a precision that is not served.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

    _check_environment(mixed_precision)
    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision or _best_precision(),
            cpu=_shares_cpu(),
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=FOR_EVER)],
        )
        start_heartbeat(accelerator)
        return accelerator
    except (RuntimeError, OSError) as error:  # torch's DistNetworkError is a RuntimeError
        if not is_launched():
            raise
        host, port = (os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise UserError(
            f"The processes of this run cannot meet at {host}:{port} ({first_line(error)}). "
            "Choose another --main_process_port (accelerate), --master_port (torchrun) or "
            "MASTER_PORT."
        ) from error


def ineffective_environment() -> list[str]:
    """What accelerate's environment asks for and a flag here decides, one sentence each."""
    return [
        f"`{name}` is {os.environ[name]} in the environment and has no effect; use {flag}."
        for name, (neutral, flag) in INEFFECTIVE.items()
        if os.environ.get(name, neutral).lower() not in (neutral, "")
    ]


def _check_environment(mixed_precision: str | None) -> None:
    for name, engine in REFUSED.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on", "y", "t"):
            raise UserError(
                f"accelerate's environment switches on {engine} (`{name}`), but only the base's "
                "frozen weights are large here, and each process holds them whole. Start with "
                "`accelerate launch --multi_gpu` or torchrun; for less memory see --plan."
            )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if mixed_precision is None and precision not in PRECISIONS:
        raise UserError(
            f"accelerate's environment asks for the precision {precision}, in which no training "
            f"runs here. Give --mixed_precision, one of {', '.join(PRECISIONS)}."
        )


def _best_precision() -> str | None:
    """What to compute in where neither flag nor launcher says; None: as the launcher says."""
    uses_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if "ACCELERATE_MIXED_PRECISION" in os.environ or uses_cpu or not torch.cuda.is_available():
        return None
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _shares_cpu() -> bool:
    """Whether processes started together have no accelerator: unasked, each would train alone."""
    return is_launched() and not torch.accelerator.is_available()

"""The optimizer and the course of its learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from orthodiff.errors import UserError
from training.config import RunConfig


def make_optimizer(
    config: RunConfig, parameters: Sequence[nn.Parameter], *, processes: int = 1
) -> Optimizer:
    """AdamW over the adapter's parameters.

    Raises:
        UserError: 8-bit AdamW is asked for and bitsandbytes is not installed.
    """
    rate = config.rate
    if config.scale_lr:
        rate *= config.gradient_accumulation_steps * config.train_batch_size * processes
    betas = (config.adam_beta1, config.adam_beta2)
    if config.use_8bit_adam:
        return eight_bit_adamw()(
            parameters,
            lr=rate,
            betas=betas,
            weight_decay=config.adam_weight_decay,
            eps=config.adam_epsilon,
        )
    return torch.optim.AdamW(
        parameters,
        lr=rate,
        betas=betas,
        weight_decay=config.adam_weight_decay,
        eps=config.adam_epsilon,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


def make_schedule(config: RunConfig, optimizer: Optimizer) -> LRScheduler:
    """The course of the rate, stepped once per optimizer step."""
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        config.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )


def eight_bit_adamw() -> Any:
    """The class of 8-bit AdamW.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError(
            "`use_8bit_adam` needs bitsandbytes, which is not installed. "
            "Run `pip install orthodiff[bitsandbytes]`, or leave the flag out."
        ) from error
    return bitsandbytes.optim.AdamW8bit

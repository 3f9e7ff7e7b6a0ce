"""The optimizers and the course of the learning rate."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from orthodiff.errors import UserError

from ..options.config import RunConfig
from .muon import Muon

OF_ADAMW = ("tokens", "hint_encoder")
"""Parts that muon leaves to AdamW: words are no matrices, and hints learn no faster by it."""
Groups = list[dict[str, Any]]
"""What torch's optimizers take: the `params` of a `part` with the rate `lr` of their own."""


def make_optimizer(
    config: RunConfig, parameters: Mapping[str, Sequence[nn.Parameter]], *, processes: int = 1
) -> Optimizer:
    """The configured optimizer over the parameters of every part of what is learned.

    Raises:
        UserError: it needs a package that is not installed.
    """
    times = config.gradient_accumulation_steps * config.train_batch_size * processes
    groups = [
        {
            "part": part,
            "params": list(own),
            "lr": config.rate_for(part) * (times if config.scale_lr else 1),
        }
        for part, own in parameters.items()
    ]
    return OPTIMIZERS[config.optimizer](config, groups)


def make_lr_scheduler(config: RunConfig, optimizer: Optimizer) -> LRScheduler:
    """The course of the rate, stepped once per optimizer step; schedule-free has its own."""
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        "constant" if config.optimizer == "schedulefree" else config.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )


def follow(rates: LRScheduler) -> None:
    """Set the rate of the next step anew: a longer run's course is another, from here on.

    Where the course is the same, so are the bits.
    """
    lambdas = rates.lr_lambdas  # type: ignore[attr-defined]
    for group, peak, course in zip(
        rates.optimizer.param_groups, rates.base_lrs, lambdas, strict=True
    ):
        group["lr"] = peak * course(rates.last_epoch)


def rate_of(optimizer: Optimizer) -> float:
    """The rate of the next step; Prodigy's is its own estimate times the schedule's."""
    group = optimizer.param_groups[0]
    return float(group["lr"] * group.get("d", 1.0))


def check_optimizer(config: RunConfig) -> None:
    """Refuse early what would fail later.

    Raises:
        UserError: the optimizer needs a package that is not installed.
    """
    if config.optimizer in EXTRAS:
        _package(config.optimizer)


def _adamw(config: RunConfig, groups: Groups) -> Optimizer:
    fused = groups[0]["params"][0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, fused=fused, **_adam_settings(config))


def _muon(config: RunConfig, groups: Groups) -> Optimizer:
    """Muon for the matrices of adapters, AdamW for words, hint encoders and scales."""
    divided = [
        {**group, "params": params, "is_matrices": is_matrices}
        for group in groups
        for is_matrices in (True, False)
        if (params := [p for p in group["params"] if _is_matrix(p, group) == is_matrices])
    ]
    return Muon(divided, **_adam_settings(config))


def _is_matrix(parameter: nn.Parameter, group: Mapping[str, Any]) -> bool:
    return parameter.ndim > 1 and group["part"] not in OF_ADAMW


def _adamw_8bit(config: RunConfig, groups: Groups) -> Optimizer:
    return _package("adamw8bit").optim.AdamW8bit(groups, **_adam_settings(config))


def _prodigy(config: RunConfig, groups: Groups) -> Optimizer:
    """Prodigy (Mishchenko & Defazio, 2306.06101), as its authors advise for diffusion models."""
    return _package("prodigy").Prodigy(
        groups,
        decouple=True,
        use_bias_correction=True,
        safeguard_warmup=True,
        **_adam_settings(config),
    )


def _schedule_free(config: RunConfig, groups: Groups) -> Optimizer:
    """Schedule-free AdamW (Defazio et al., 2405.15682); it warms up by itself."""
    return _package("schedulefree").AdamWScheduleFree(
        groups, warmup_steps=config.lr_warmup_steps, **_adam_settings(config)
    )


def _adam_settings(config: RunConfig) -> dict[str, Any]:
    return {
        "betas": (config.adam_beta1, config.adam_beta2),
        "weight_decay": config.adam_weight_decay,
        "eps": config.adam_epsilon,
    }


OPTIMIZERS: dict[str, Callable[[RunConfig, Groups], Optimizer]] = {
    "adamw": _adamw,
    "muon": _muon,
    "adamw8bit": _adamw_8bit,
    "prodigy": _prodigy,
    "schedulefree": _schedule_free,
}
EXTRAS = {
    "adamw8bit": ("bitsandbytes", "bitsandbytes"),
    "prodigy": ("prodigyopt", "optimizers"),
    "schedulefree": ("schedulefree", "optimizers"),
}
"""By optimizer: the module it needs, and the extra of ours that installs it."""


def _package(optimizer: str) -> Any:
    module, extra = EXTRAS[optimizer]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"The optimizer {optimizer} needs {module}, which is not installed. "
            f"Run `pip install 'orthodiff[{extra}]'`, or use --optimizer adamw."
        ) from error

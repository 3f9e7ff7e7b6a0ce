"""The optimizers and the schedule of the learning rate."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from orthodiff.errors import UserError, first_line

from ..options import OptimiseOptions
from .muon import Muon

OF_ADAMW = ("tokens", "hint_encoder")
"""Components that muon leaves to AdamW: words are no matrices, and hints learn no faster by it."""
Groups = list[dict[str, Any]]
"""What torch's optimizers take: the `params` of a component (`part`) with their own `lr`."""


def make_optimizer(
    options: OptimiseOptions,
    parameters: Mapping[str, Sequence[nn.Parameter]],
    learning_rates: Mapping[str, float],
    *,
    processes: int = 1,
) -> Optimizer:
    """The configured optimizer over the parameters of every component, each at its peak rate.

    Raises:
        UserError: it needs a package that is not installed.
    """
    samples = options.gradient_accumulation_steps * options.train_batch_size * processes
    groups = [
        {
            "part": component,
            "params": list(own),
            "lr": learning_rates[component] * (samples if options.scale_lr else 1),
        }
        for component, own in parameters.items()
    ]
    return OPTIMIZERS[options.optimizer](options, groups)


def make_lr_scheduler(options: OptimiseOptions, optimizer: Optimizer) -> LRScheduler:
    """diffusers' schedule, stepped once per optimizer step; schedule-free has its own."""
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        "constant" if options.optimizer == "schedulefree" else options.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=options.lr_warmup_steps,
        num_training_steps=options.max_train_steps,
        num_cycles=options.lr_num_cycles,
        power=options.lr_power,
    )


def check_lr_schedule(options: OptimiseOptions, peak: float) -> None:
    """Go through the learning rates of the whole run, so that none fails in its middle.

    Raises:
        UserError: the schedule has no finite rate of at least 0 somewhere.
    """
    stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    step, last = 0, options.max_train_steps
    try:
        (factor,) = make_lr_scheduler(options, stand_in).lr_lambdas  # type: ignore[attr-defined]
        for step in range(last + 1):  # torch asks for one more than there are steps
            if not 0 <= factor(step) < math.inf:
                raise ValueError(f"it is {factor(step)}")
    except (ArithmeticError, ValueError, TypeError) as error:
        raise UserError(
            f"`lr_scheduler` {options.lr_scheduler} has no learning rate at step {step} of {last} "
            f"({first_line(error)}), with `lr_warmup_steps` {options.lr_warmup_steps} and a peak "
            f"of {peak:g}. Use fewer --lr_warmup_steps, or another --lr_scheduler."
        ) from error


def refresh_learning_rates(lr_scheduler: LRScheduler) -> None:
    """Set the learning rate of the next step anew: in a longer run the schedule is another.

    Where the schedule is the same, so are the bits.
    """
    factors = lr_scheduler.lr_lambdas  # type: ignore[attr-defined]
    for group, peak, factor in zip(
        lr_scheduler.optimizer.param_groups, lr_scheduler.base_lrs, factors, strict=True
    ):
        group["lr"] = peak * factor(lr_scheduler.last_epoch)


def learning_rate_of(optimizer: Optimizer) -> float:
    """The learning rate of the next step; Prodigy's is its own estimate times the schedule's."""
    group = optimizer.param_groups[0]
    return float(group["lr"] * group.get("d", 1.0))


def check_optimizer(options: OptimiseOptions) -> None:
    """Refuse early what would fail later.

    Raises:
        UserError: the optimizer needs a package that is not installed.
    """
    if options.optimizer in EXTRAS:
        _package(options.optimizer)


def _adamw(options: OptimiseOptions, groups: Groups) -> Optimizer:
    fused = groups[0]["params"][0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, fused=fused, **_adam_settings(options))


def _muon(options: OptimiseOptions, groups: Groups) -> Optimizer:
    """Muon for the matrices of adapters, AdamW for words, hint encoders and scales."""
    divided = [
        {**group, "params": params, "is_matrices": is_matrices}
        for group in groups
        for is_matrices in (True, False)
        if (params := [p for p in group["params"] if _is_matrix(p, group) == is_matrices])
    ]
    return Muon(divided, **_adam_settings(options))


def _is_matrix(parameter: nn.Parameter, group: Mapping[str, Any]) -> bool:
    return parameter.ndim > 1 and group["part"] not in OF_ADAMW


def _adamw_8bit(options: OptimiseOptions, groups: Groups) -> Optimizer:
    return _package("adamw8bit").optim.AdamW8bit(groups, **_adam_settings(options))


def _prodigy(options: OptimiseOptions, groups: Groups) -> Optimizer:
    """Prodigy (arXiv:2306.06101), as its authors advise for diffusion models."""
    return _package("prodigy").Prodigy(
        groups,
        decouple=True,
        use_bias_correction=True,
        safeguard_warmup=True,
        **_adam_settings(options),
    )


def _schedule_free(options: OptimiseOptions, groups: Groups) -> Optimizer:
    """Schedule-free AdamW (Defazio et al., arXiv:2405.15682); it warms up by itself."""
    return _package("schedulefree").AdamWScheduleFree(
        groups, warmup_steps=options.lr_warmup_steps, **_adam_settings(options)
    )


def _adam_settings(options: OptimiseOptions) -> dict[str, Any]:
    return {
        "betas": (options.adam_beta1, options.adam_beta2),
        "weight_decay": options.adam_weight_decay,
        "eps": options.adam_epsilon,
    }


OPTIMIZERS: dict[str, Callable[[OptimiseOptions, Groups], Optimizer]] = {
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

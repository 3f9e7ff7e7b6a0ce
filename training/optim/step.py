"""What changes from step to step: the parameters, their optimizer, learning rate and average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ..events.failures import check_finite
from ..events.signals import STOPPERS
from .build import learning_rate_of, refresh_learning_rates
from .ema import AveragedWeights
from .share import average

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from orthodiff.components.adapter_set import AdapterSet


class Update(NamedTuple):
    """The mean loss over all processes, the learning rate of the step, and a signal that one of the
    processes had received before it.
    """

    loss: float
    learning_rate: float
    signal: int | None


class OptimizerStep:
    """One update at a time, and everything of it that a checkpoint must hold."""

    def __init__(
        self,
        adapter_set: AdapterSet,
        optimizer: AcceleratedOptimizer,
        lr_scheduler: LRScheduler,
        averaged_weights: AveragedWeights,
        *,
        accelerator: Accelerator,
        max_grad_norm: float,
        peak_learning_rate: float,
    ) -> None:
        self.adapter_set, self.parameters = adapter_set, adapter_set.parameters()
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.averaged_weights, self.accelerator = averaged_weights, accelerator
        self.max_grad_norm, self.peak_learning_rate = max_grad_norm, peak_learning_rate
        self._gradients: list[Tensor | None] = [None] * len(self.parameters)

    def accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add the gradients of one batch; `grad` stays empty, for engines start from nothing."""
        for number, gradient in enumerate(gradients):
            total = self._gradients[number]
            if total is None or gradient is None:
                self._gradients[number] = gradient if total is None else total
            else:
                total += gradient

    def update(self, step: int, loss: Tensor, signal: int | None = None) -> Update:
        """Take one step against the gradients, if these and the `loss` are finite everywhere.

        All numbers that Python needs come from the device in one transfer: each would make it wait
        for the kernels that are still queued.

        Raises:
            FloatingPointError: loss or gradient are not finite (a loss scaler leaves a step with
                such a gradient out).
        """
        flags = torch.tensor([float(signal == each) for each in STOPPERS])
        gradients, self._gradients = self._gradients, [None] * len(self.parameters)
        if self.accelerator.num_processes > 1:
            flags = flags.to(loss.device, non_blocking=True)
            gradients[:], (loss, flags) = average(
                self.accelerator, gradients, self.parameters, loss, flags
            )
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.max_grad_norm or math.inf)
        mean, size, *flagged = self._numbers(loss, norm, flags)
        check_finite("loss", mean, step=step, learning_rate=self.peak_learning_rate)
        if self.accelerator.scaler is None:
            check_finite("gradient's norm", size, step=step, learning_rate=self.peak_learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averaged_weights.step()  # averages what the optimizer has just written
        self.adapter_set.changed()  # merged and solved matrices are of the old parameters
        learning_rate = learning_rate_of(
            self.optimizer
        )  # of this step, before the schedule goes on
        self.lr_scheduler.step()
        received = [number for number, flag in zip(STOPPERS, flagged, strict=True) if flag]
        return Update(mean, learning_rate, int(received[0]) if received else None)

    def _numbers(self, loss: Tensor, norm: Tensor, flags: Tensor) -> list[float]:
        """Loss, norm and flags as Python's numbers."""
        if self.accelerator.num_processes == 1:
            return [*torch.stack([loss.float(), norm.float()]).cpu().tolist(), *flags.tolist()]
        return torch.cat([torch.stack([loss.float(), norm.float()]), flags]).cpu().tolist()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on to the same bits."""
        scaler = self.accelerator.scaler
        return {
            "adapter": self.adapter_set.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.lr_scheduler.state_dict(),
            "average": self.averaged_weights.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.adapter_set.load_state_dict(state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["rates"])
        refresh_learning_rates(self.lr_scheduler)
        self.averaged_weights.load_state_dict(state["average"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

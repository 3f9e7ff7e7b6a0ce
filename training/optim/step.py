"""What changes from step to step: the parameters, their optimizer, learning rate and average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ..events.failures import check_finite
from .build import learning_rate_of, refresh_learning_rates
from .ema import AveragedWeights

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from orthodiff.components.adapter_set import AdapterSet


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

    def update(self, step: int) -> float:
        """Take one step against the gradients; the learning rate it was taken at.

        Raises:
            FloatingPointError: the gradient is not finite (a loss scaler leaves such a step out).
        """
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._gradients = [None] * len(self.parameters)
        self._share_gradients()
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.max_grad_norm or math.inf)
        if self.accelerator.scaler is None:
            check_finite(
                "gradient's norm", float(norm), step=step, learning_rate=self.peak_learning_rate
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averaged_weights.step()
        self.adapter_set.changed()
        learning_rate = learning_rate_of(self.optimizer)
        self.lr_scheduler.step()
        return learning_rate

    def _share_gradients(self) -> None:
        """Average over processes: adapters are small, so no model wrapper is needed."""
        if self.accelerator.num_processes > 1:
            for parameter in self.parameters:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

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

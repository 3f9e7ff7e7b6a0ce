"""What changes from step to step: what is learned, its optimizer, its rate and its average."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..events.failures import check_finite
from .build import (
    follow,
    make_lr_scheduler,
    make_optimizer,
    rate_of,
)
from .ema import AveragedWeights

if TYPE_CHECKING:
    from orthodiff.components.adapter_set import AdapterSet

    from ..run.prepare import RunContext


class OptimizerStep:
    """One update at a time, and everything of it that a checkpoint must hold."""

    def __init__(self, context: RunContext, adapter_set: AdapterSet) -> None:
        self.config, self.accelerator, self.adapter_set = (
            context.config,
            context.accelerator,
            adapter_set,
        )
        self.parameters, self.provenance = adapter_set.parameters(), context.provenance
        by_part = {name: part.parameters() for name, part in adapter_set.components.items()}
        optimizer = make_optimizer(self.config, by_part, processes=self.accelerator.num_processes)
        decay = self.config.ema_decay if self.config.use_ema else None
        self.averaged_weights = AveragedWeights(adapter_set, optimizer, decay=decay)
        self.rates = make_lr_scheduler(self.config, optimizer)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        if context.checkpoint:
            self._restore(context.checkpoint)

    def update(self, step: int) -> float:
        """Take one step against the gradients; the rate it was taken at.

        Raises:
            FloatingPointError: the gradient is not finite (a loss scaler leaves such a step out).
        """
        self._share_gradients()
        most = self.config.max_grad_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.parameters, most)
        if self.accelerator.scaler is None:
            check_finite("gradient's norm", float(norm), step=step, rate=self.config.rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averaged_weights.step()
        self.adapter_set.changed()
        rate = rate_of(self.optimizer)
        self.rates.step()
        return rate

    def _share_gradients(self) -> None:
        """Average over processes: adapters are small, so no model wrapper is needed."""
        if self.accelerator.num_processes > 1:
            for parameter in self.parameters:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs to go on to the same bits."""
        scaler = self.accelerator.scaler
        return {
            "adapter": self.adapter_set.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "average": self.averaged_weights.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "config": json.dumps(self.config.resolved()),
            "origin": json.dumps(self.provenance),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.adapter_set.load_state_dict(state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        follow(self.rates)
        self.averaged_weights.load_state_dict(state["average"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

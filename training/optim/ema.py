"""Which weights are shown: in samples, in a checkpoint's adapter and at the end.

With a moving average or a schedule-free optimizer they are not those being trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from orthodiff.components.adapter_set import AdapterSet


class AveragedWeights:
    """Keeps the exponential moving average, if there is a `decay`, and swaps weights in and out."""

    def __init__(self, adapter_set: AdapterSet, optimizer: Any, *, decay: float | None) -> None:
        self.adapter_set = adapter_set
        self.optimizer = optimizer
        self.is_schedule_free = "train_mode" in optimizer.param_groups[0]
        if self.is_schedule_free:
            self.optimizer.train()
        self.average = _start(adapter_set, decay) if decay is not None else None

    def step(self) -> None:
        """Take the trained weights into the average."""
        if self.average:
            self.average.step(self.adapter_set.parameters())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the averaged weights are in place; afterwards the very same as before.

        The exact copy matters: schedule-free's own way back rounds, and a run that makes images
        would end elsewhere than one that does not.
        """
        if not self.average and not self.is_schedule_free:
            yield
            return
        trained = self.adapter_set.state_dict()
        try:
            self._show(list(trained))
            yield
        finally:
            self.adapter_set.load_state_dict(trained)
            if self.is_schedule_free:
                for group in self.optimizer.param_groups:
                    group["train_mode"] = True

    def _show(self, names: list[str]) -> None:
        if self.is_schedule_free:
            self.optimizer.eval()
        elif self.average:
            self.adapter_set.load_state_dict(
                dict(zip(names, self.average.shadow_params, strict=True))
            )

    def state_dict(self) -> dict[str, Any] | None:
        """What a continued run needs."""
        return self.average.state_dict() if self.average else None

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take up the average of `state_dict`."""
        if self.average and state:
            self.average.load_state_dict(dict(state))
            self.average.to(self.adapter_set.parameters()[0].device)


def _start(adapter_set: AdapterSet, decay: float) -> Any:
    """diffusers' average: in the first steps its decay is (1 + step) / (10 + step)."""
    from diffusers.training_utils import EMAModel

    return EMAModel(adapter_set.parameters(), decay=decay, foreach=True)

"""The plain engine: the model's own Python code, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..latents.sampler import Batch


class StepResult(NamedTuple):
    """What a batch adds to the loss of its step, and to each parameter's gradient, in order."""

    loss: Tensor
    gradients: list[Tensor | None]


class StepEngine(Protocol):
    """Computes batches; it changes no parameter, and leaves their `grad` empty as it was."""

    def step(self, batch: Batch) -> StepResult:
        """The loss and gradients of one batch."""


class EagerEngine:
    """Computes `loss` and goes back through it with `backward`, both inside `context`."""

    def __init__(
        self,
        loss: Callable[[Batch], Tensor],
        parameters: Sequence[nn.Parameter],
        *,
        backward: Callable[[Tensor], None],
        context: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.loss, self.parameters = loss, parameters
        self.backward, self.context = backward, context

    def step(self, batch: Batch) -> StepResult:
        """The loss and gradients of one batch."""
        with self.context():
            loss = self.loss(batch)
            self.backward(loss)
        gradients = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return StepResult(loss.detach(), gradients)

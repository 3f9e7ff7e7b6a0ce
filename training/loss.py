"""The loss of one batch: noise added, the adapted model's prediction, errors and their weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orthodiff.models import Objective

from .latents.sampler import Batch
from .objective import sample_errors, snr_weights


class BatchLoss:
    """What a batch adds to the loss of its step.

    `predict` gives the adapted model's output for noisy latents, in `dtype`, that of the frozen
    base; `regularizer` is what the adapters' method adds once a step. The weighted errors are
    summed and divided by `samples`, those of each stream in a step of one process: batches of a
    step just add up.

    There is no autocast. In half precision the base is itself in that type, adapters cast what they
    learn in float32, and the loss is in float32; autocast would only turn the outputs of every
    normalisation, which the backward pass keeps, into float32.
    """

    def __init__(
        self,
        predict: Callable[[Tensor, Batch], Tensor],
        regularizer: Callable[[], Tensor],
        objective: Objective,
        *,
        samples: int,
        snr_gamma: float | None,
        unmasked_weight: float,
        dtype: torch.dtype,
    ) -> None:
        self.predict, self.regularizer, self.objective = predict, regularizer, objective
        self.samples, self.snr_gamma, self.unmasked_weight = samples, snr_gamma, unmasked_weight
        self.dtype = dtype

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar, with gradients."""
        snr = snr_weights(self.objective, batch.timesteps, self.snr_gamma)
        loss = (self.errors(batch) * batch.weights * snr).sum() / self.samples
        return loss + self.regularizer() * batch.regularizer_share

    def errors(self, batch: Batch) -> Tensor:
        """The error `(B,)` of each sample, before any weight but the mask's."""
        noisy = self.objective.add_noise(batch.latents, batch.noise, batch.timesteps)
        expected = self.objective.target(batch.latents, batch.noise, batch.timesteps)
        output = self.predict(noisy.to(self.dtype), batch)
        return sample_errors(output, expected, batch.mask, unmasked_weight=self.unmasked_weight)

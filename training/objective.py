"""What chance decides for a sample, and how much its error counts. Pure functions of tensors.

How noise is added and what is predicted is the base's `orthodiff.models.Objective`. Every sample
draws from its own generator, made from (seed, position in the stream): a run can stop and go on
anywhere, and batches can be split over processes, without changing a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orthodiff.models import Objective


@dataclass(frozen=True)
class Draw:
    """What chance decides for one sample: both noises `(C, h, w)` and the `timestep`, a scalar."""

    posterior: Tensor
    noise: Tensor
    timestep: Tensor


def draw(
    seed: int,
    position: int,
    shape: Sequence[int],
    *,
    objective: Objective,
    stream: str,
    offset: float = 0.0,
) -> Draw:
    """Draw for the sample at `position` of `stream`; `shape` is its latent's `(C, h, w)`.

    `offset` times one more number per channel is added to the noise ("noise offset": the model
    also learns to change the overall brightness).
    """
    generator = torch.Generator().manual_seed(derive(seed, stream, position))
    noise = torch.randn(tuple(shape), generator=generator)
    posterior = torch.randn(tuple(shape), generator=generator)
    timestep = objective.draw_timestep(generator)
    if offset:
        noise = noise + offset * torch.randn((shape[0], 1, 1), generator=generator)
    return Draw(posterior, noise, timestep)


def derive(seed: int, purpose: str, number: int) -> int:
    """A 63-bit seed for one purpose and number, independent of all others."""
    words = f"{seed}/{purpose}/{number}".encode(errors="surrogateescape")  # of files' names
    digest = hashlib.blake2b(words, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def snr_weights(objective: Objective, timesteps: Tensor, gamma: float | None) -> Tensor:
    """Min-SNR-gamma weights `(B,)` (arXiv:2303.09556); ones where `gamma` is None.

    The weight of the last step of a zero-terminal-SNR schedule, where the formula gives 0 or 0/0,
    is 1 as without weighting: such bases have that step in order to learn it.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    snr = objective.snr(timesteps)
    weights = objective.to_prediction_weights(snr.clamp(max=gamma), timesteps)
    return torch.where(snr > 0, weights, torch.ones_like(snr))


def sample_errors(
    output: Tensor, target: Tensor, mask: Tensor | None = None, *, unmasked_weight: float = 0.0
) -> Tensor:
    """Mean squared error of each sample `(B,)`, in float32.

    `mask` `(B, 1, h, w)` in 0..1 makes it a weighted mean over the latent's pixels: 1 inside and
    `unmasked_weight` outside, divided by their sum, so that a small subject counts as much as a
    large one. A sample without any weight has no error.
    """
    error = (output.float() - target.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    weights = (unmasked_weight + (1 - unmasked_weight) * mask.float()).expand_as(error).flatten(1)
    return (error.flatten(1) * weights).sum(1) / weights.sum(1).clamp(
        min=1e-6
    )  # no weight at all: 0 / 1e-6 is no error

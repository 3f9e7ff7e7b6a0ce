"""The training objective: noise, target and weights. Pure functions of tensors.

Noise schedule: `noisy = sqrt(a) latent + sqrt(1 - a) noise`, `a` = `alphas_cumprod[t]` (Ho et al.,
2006.11239). Every sample draws from its own generator, made from (seed, position in the stream): a
run can stop and go on anywhere, and batches can be split over processes, without changing a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthodiff.errors import UserError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class NoiseSchedule:
    """The base's schedule: `alphas_cumprod` `(T,)` and what its UNet predicts."""

    alphas_cumprod: Tensor
    prediction: str

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """Read it from any diffusers scheduler that has `alphas_cumprod`.

        Raises:
            UserError: the UNet predicts something else than noise, velocity or sample.
        """
        from diffusers import DDPMScheduler

        config = scheduler.config
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise UserError(
                f"The base predicts `{prediction}`, which training does not know. Use a base that "
                f"predicts one of {', '.join(PREDICTIONS)}."
            )
        return cls(DDPMScheduler.from_config(config).alphas_cumprod, prediction)

    def to(self, device: torch.device) -> NoiseSchedule:
        return NoiseSchedule(self.alphas_cumprod.to(device), self.prediction)


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
    num_timesteps: int,
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
    timestep = torch.randint(num_timesteps, (), generator=generator)
    if offset:
        noise = noise + offset * torch.randn((shape[0], 1, 1), generator=generator)
    return Draw(posterior, noise, timestep)


def derive(seed: int, purpose: str, number: int) -> int:
    """A 63-bit seed for one purpose and number, independent of all others."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def add_noise(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Latents `(B, C, h, w)` at noise level `timesteps`."""
    signal, spread = _levels(schedule, timesteps)
    return signal * latents + spread * noise


def target(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the UNet should answer: noise, velocity (Salimans & Ho, 2202.00512) or latent."""
    if schedule.prediction == "epsilon":
        return noise
    if schedule.prediction == "sample":
        return latents
    signal, spread = _levels(schedule, timesteps)
    return signal * noise - spread * latents


def snr_weights(schedule: NoiseSchedule, timesteps: Tensor, gamma: float | None) -> Tensor:
    """Min-SNR-gamma weights `(B,)` (Hang et al., 2303.09556); ones where `gamma` is None.

    The weight of the last step of a zero-terminal-SNR schedule, where the formula gives 0 or 0/0,
    is 1 as without weighting: such bases have that step in order to learn it.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    alphas = schedule.alphas_cumprod[timesteps]
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=gamma)
    if schedule.prediction == "epsilon":
        weights = weights / snr
    elif schedule.prediction == "v_prediction":
        weights = weights / (snr + 1)
    return torch.where(snr > 0, weights, torch.ones_like(snr))


def sample_errors(
    output: Tensor, wanted: Tensor, mask: Tensor | None = None, *, unmasked_weight: float = 0.0
) -> Tensor:
    """Mean squared error of each sample `(B,)`, in float32.

    `mask` `(B, 1, h, w)` in 0..1 makes it a weighted mean over the latent's pixels: 1 inside and
    `unmasked_weight` outside, divided by their sum, so that a small subject counts as much as a
    large one. A sample without any weight has no error.
    """
    error = (output.float() - wanted.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    weights = (unmasked_weight + (1 - unmasked_weight) * mask.float()).expand_as(error).flatten(1)
    return (error.flatten(1) * weights).sum(1) / weights.sum(1).clamp(min=1e-6)


def _levels(schedule: NoiseSchedule, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()

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
    """What chance decides for a batch: both noises `(B, C, h, w)` and `timesteps` `(B,)`."""

    posterior: Tensor
    noise: Tensor
    timesteps: Tensor

    def to(self, device: torch.device) -> Draw:
        return Draw(self.posterior.to(device), self.noise.to(device), self.timesteps.to(device))


def draw(
    seed: int, positions: Sequence[int], shape: Sequence[int], *, num_timesteps: int, stream: str
) -> Draw:
    """Draw for the samples at `positions` of `stream`; `shape` is one latent's `(C, h, w)`."""
    posterior, noise, timesteps = [], [], []
    for position in positions:
        generator = torch.Generator().manual_seed(derive(seed, stream, position))
        noise.append(torch.randn(tuple(shape), generator=generator))
        posterior.append(torch.randn(tuple(shape), generator=generator))
        timesteps.append(torch.randint(num_timesteps, (1,), generator=generator))
    return Draw(torch.stack(posterior), torch.stack(noise), torch.cat(timesteps))


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
    """Min-SNR-gamma weights `(B,)` (Hang et al., 2303.09556); ones where `gamma` is None."""
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    alphas = schedule.alphas_cumprod[timesteps]
    snr = alphas / (1 - alphas)
    capped = snr.clamp(max=gamma)
    if schedule.prediction == "epsilon":
        return torch.where(snr > 0, capped / snr, torch.ones_like(snr))
    return capped / (snr + 1) if schedule.prediction == "v_prediction" else capped


def weighted_error(output: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Mean over the batch of `weights` `(B,)` times each mean squared error, in float32."""
    error = (output.float() - wanted.float()).square().flatten(1).mean(1)
    return (error * weights).mean()


def _levels(schedule: NoiseSchedule, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()

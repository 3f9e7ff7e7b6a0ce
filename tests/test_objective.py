"""The objective agrees with diffusers' schedulers, and chance depends on (seed, position) only."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import compute_snr

from training.objective import (
    PREDICTIONS,
    NoiseSchedule,
    add_noise,
    derive,
    draw,
    snr_weights,
    target,
    weighted_error,
)

LATENTS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
TIMESTEPS = torch.tensor([0, 500, 999])


def schedule(prediction: str = "epsilon") -> NoiseSchedule:
    return NoiseSchedule.of(DDIMScheduler(prediction_type=prediction, clip_sample=False))


def test_noise_and_velocity_agree_with_diffusers() -> None:
    peer = DDPMScheduler()
    noisy = add_noise(schedule(), LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(noisy, peer.add_noise(LATENTS, NOISE, TIMESTEPS), atol=1e-6)
    velocity = target(schedule("v_prediction"), LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(velocity, peer.get_velocity(LATENTS, NOISE, TIMESTEPS), atol=1e-6)
    assert target(schedule("epsilon"), LATENTS, NOISE, TIMESTEPS) is NOISE
    assert target(schedule("sample"), LATENTS, NOISE, TIMESTEPS) is LATENTS


def test_min_snr_weights_agree_with_diffusers_recipe() -> None:
    snr = compute_snr(DDPMScheduler(), TIMESTEPS)
    capped = torch.stack([snr, torch.full_like(snr, 5.0)], dim=1).amin(1)
    assert torch.allclose(snr_weights(schedule(), TIMESTEPS, 5.0), capped / snr, rtol=1e-3)
    velocity = snr_weights(schedule("v_prediction"), TIMESTEPS, 5.0)
    assert torch.allclose(velocity, capped / (snr + 1), rtol=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weights_are_finite_on_a_schedule_that_ends_in_pure_noise(prediction: str) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction, rescale_betas_zero_snr=True)
    weights = snr_weights(NoiseSchedule.of(scheduler), TIMESTEPS, 5.0)
    assert torch.isfinite(weights).all()


def test_error_is_mean_squared_error_under_unit_weights() -> None:
    error = weighted_error(LATENTS, NOISE, torch.ones(3))
    assert torch.allclose(error, torch.nn.functional.mse_loss(LATENTS, NOISE))


def test_draw_depends_on_seed_and_position_only() -> None:
    whole = draw(0, range(6), (4, 8, 8), num_timesteps=1000, stream="subject")
    part = draw(0, range(4, 6), (4, 8, 8), num_timesteps=1000, stream="subject")
    assert torch.equal(whole.noise[4:], part.noise)
    assert torch.equal(whole.posterior[4:], part.posterior)
    assert torch.equal(whole.timesteps[4:], part.timesteps)
    other = draw(0, range(4, 6), (4, 8, 8), num_timesteps=1000, stream="class")
    assert not torch.equal(part.noise, other.noise)
    assert derive(0, "a", 1) != derive(1, "a", 0)

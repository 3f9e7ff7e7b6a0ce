"""The objective agrees with diffusers' schedulers, and chance depends on (seed, position) only."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from orthodiff.models import Diffusion
from orthodiff.models.objective import PREDICTIONS
from orthodiff.training.objective import (
    Draw,
    derive,
    draw,
    sample_errors,
    snr_weights,
)

LATENTS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
TIMESTEPS = torch.tensor([0, 500, 999])


def schedule(prediction: str = "epsilon") -> Diffusion:
    return Diffusion.of(DDIMScheduler(prediction_type=prediction, clip_sample=False))


def test_noise_and_velocity_agree_with_diffusers() -> None:
    peer = DDPMScheduler()
    noisy = schedule().add_noise(LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(noisy, peer.add_noise(LATENTS, NOISE, TIMESTEPS), atol=1e-6)
    velocity = schedule("v_prediction").target(LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(velocity, peer.get_velocity(LATENTS, NOISE, TIMESTEPS), atol=1e-6)
    assert schedule("epsilon").target(LATENTS, NOISE, TIMESTEPS) is NOISE
    assert schedule("sample").target(LATENTS, NOISE, TIMESTEPS) is LATENTS


@pytest.mark.parametrize("zero_terminal", [False, True])
def test_noise_agrees_on_schedules_of_every_kind(zero_terminal: bool) -> None:
    options = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": zero_terminal,
        "timestep_spacing": "trailing",
    }
    peer = DDPMScheduler(**options)
    for kind in (DDIMScheduler, EulerDiscreteScheduler):
        ours = Diffusion.of(kind(prediction_type="v_prediction", **options))
        noisy = ours.add_noise(LATENTS, NOISE, TIMESTEPS)
        assert torch.allclose(noisy, peer.add_noise(LATENTS, NOISE, TIMESTEPS), atol=1e-6)
        velocity = ours.target(LATENTS, NOISE, TIMESTEPS)
        wanted = peer.get_velocity(LATENTS, NOISE, TIMESTEPS)
        assert torch.allclose(velocity, wanted, atol=1e-6)
    if zero_terminal:
        assert torch.allclose(noisy[2], NOISE[2], atol=1e-4)
        assert torch.allclose(velocity[2], -LATENTS[2], atol=1e-4)


def test_min_snr_weights_agree_with_diffusers_recipe() -> None:
    snr = compute_snr(DDPMScheduler(), TIMESTEPS)
    capped = torch.stack([snr, torch.full_like(snr, 5.0)], dim=1).amin(1)
    recipes = {"epsilon": capped / snr, "v_prediction": capped / (snr + 1), "sample": capped}
    for prediction, wanted in recipes.items():
        found = snr_weights(schedule(prediction), TIMESTEPS, 5.0)
        assert torch.allclose(found, wanted, rtol=1e-3)
    assert torch.equal(snr_weights(schedule(), TIMESTEPS, None), torch.ones(3))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_last_step_of_a_zero_terminal_schedule_counts(prediction: str) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction, rescale_betas_zero_snr=True)
    zero_terminal = Diffusion.of(scheduler)
    zero_terminal.alphas_cumprod[-1] = 0
    weights = snr_weights(zero_terminal, TIMESTEPS, 5.0)
    assert torch.isfinite(weights).all()
    assert weights[2] == 1


def test_error_is_mean_squared_error() -> None:
    errors = sample_errors(LATENTS, NOISE)
    assert errors.shape == (3,)
    assert torch.allclose(errors.mean(), torch.nn.functional.mse_loss(LATENTS, NOISE))
    full = sample_errors(LATENTS, NOISE, torch.ones(3, 1, 8, 8))
    assert torch.allclose(errors, full)
    idle = sample_errors(LATENTS, NOISE, torch.zeros(3, 1, 8, 8), unmasked_weight=1.0)
    assert torch.allclose(errors, idle)


def test_a_mask_makes_a_weighted_mean_over_what_it_shows() -> None:
    mask = torch.zeros(3, 1, 8, 8)
    mask[..., :3] = 1
    inside = (LATENTS[..., :3] - NOISE[..., :3]).square().flatten(1).mean(1)
    outside = (LATENTS[..., 3:] - NOISE[..., 3:]).square().flatten(1).mean(1)
    assert torch.allclose(sample_errors(LATENTS, NOISE, mask), inside)
    part = sample_errors(LATENTS, NOISE, mask, unmasked_weight=0.2)
    assert torch.allclose(part, (3 * inside + 0.2 * 5 * outside) / (3 + 0.2 * 5))
    nothing = sample_errors(LATENTS, NOISE, torch.zeros(3, 1, 8, 8))
    assert torch.equal(nothing, torch.zeros(3))


def test_what_is_masked_away_gives_no_gradient() -> None:
    mask = torch.zeros(3, 1, 8, 8)
    mask[..., :3] = 1
    output = LATENTS.clone().requires_grad_()
    sample_errors(output, NOISE, mask).sum().backward()
    assert output.grad is not None
    assert output.grad[..., 3:].abs().max() == 0
    assert output.grad[..., :3].abs().min() > 0


def one(position: int, *, seed: int = 0, stream: str = "subject", offset: float = 0.0) -> Draw:
    return draw(seed, position, (4, 8, 8), objective=schedule(), stream=stream, offset=offset)


def test_draw_depends_on_seed_stream_and_position_only() -> None:
    for kind in ("noise", "posterior", "timestep"):
        found = getattr(one(4), kind)
        assert torch.equal(found, getattr(one(4), kind))
        for other in (one(5), one(4, seed=1), one(4, stream="class")):
            assert not torch.equal(found, getattr(other, kind))
    assert derive(0, "a", 1) != derive(1, "a", 0)


def test_noise_offset_moves_whole_channels() -> None:
    moved = one(0, offset=0.5).noise - one(0).noise
    assert torch.allclose(moved, moved.mean(dim=(1, 2), keepdim=True), atol=1e-6)
    assert torch.equal(one(0, offset=0.5).posterior, one(0).posterior)
    shifts = torch.stack([one(n, offset=0.5).noise - one(n).noise for n in range(300)])
    assert shifts[..., 0, 0].std().item() == pytest.approx(0.5, rel=0.1)


def test_timesteps_cover_the_schedule_evenly() -> None:
    steps = torch.stack([one(n).timestep for n in range(600)])
    assert steps.min() < 20
    assert steps.max() > 980
    assert steps.float().mean().item() == pytest.approx(499.5, rel=0.1)

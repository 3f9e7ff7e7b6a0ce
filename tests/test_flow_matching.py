"""A base that is no UNet and no diffusion goes through the same loop, merge and sampling."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError
from orthodiff.models import FAMILIES, FlowMatching, load_base, objective_of, register_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.schedulers import FLOW_SAMPLERS, new_scheduler
from orthodiff.training.events.log import read_events
from orthodiff.training.objective import draw, snr_weights
from tests.runs import make_images, train
from tests.test_generate import distance
from tests.tiny_flow import TinyFlow, make_tiny_flow

LATENTS, NOISE = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([100.0, 500.0, 1000.0])


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory):
    register_base(TinyFlow)
    yield make_tiny_flow(tmp_path_factory.mktemp("flow") / "base")
    FAMILIES.unregister(TinyFlow.family)


def test_noise_and_target_are_those_of_diffusers_scheduler() -> None:
    objective = objective_of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert objective == FlowMatching(shift=3.0)
    peer = FlowMatchEulerDiscreteScheduler()
    noisy = objective.add_noise(LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(noisy, peer.scale_noise(LATENTS, TIMESTEPS, NOISE), atol=1e-6)
    # From pure noise the true velocity leads to the latent in one step.
    velocity = objective.target(LATENTS, NOISE, TIMESTEPS)
    assert torch.allclose(noisy - TIMESTEPS.view(-1, 1, 1, 1) / 1000 * velocity, LATENTS, atol=1e-5)


def test_timesteps_are_logit_normal_and_shifted_like_the_schedulers() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = torch.stack([FlowMatching().draw_timestep(generator) for _ in range(2000)])
    assert plain.min() > 0
    assert plain.max() < 1000
    assert torch.logit(plain / 1000).mean().abs() < 0.1
    assert torch.logit(plain / 1000).std().item() == pytest.approx(1, abs=0.1)
    generator.manual_seed(0)
    shifted = torch.stack([FlowMatching(3.0).draw_timestep(generator) for _ in range(2000)])
    peer = FlowMatchEulerDiscreteScheduler(shift=3.0)
    expected = 1000 * peer.time_shift(np.log(3.0), 1.0, plain / 1000)
    assert torch.allclose(shifted, expected, rtol=1e-4)


def test_min_snr_weighs_the_error_of_the_latent() -> None:
    objective = FlowMatching()
    times = torch.tensor([100.0, 500.0, 900.0])
    wrong = objective.target(LATENTS, NOISE, times) + 0.1
    share = times.view(-1, 1, 1, 1) / 1000
    latents = objective.add_noise(LATENTS, NOISE, times) - share * wrong
    errors = (latents - LATENTS).square().flatten(1).mean(1)
    snr = ((1 - times / 1000) / (times / 1000)).square()
    weights = snr_weights(objective, times, 5.0)
    assert torch.allclose(weights * 0.01, snr.clamp(max=5) * errors, rtol=1e-3)
    assert snr_weights(objective, torch.tensor([1000.0]), 5.0) == 1


def test_a_scheduler_of_another_kind_is_refused() -> None:
    from diffusers import EDMEulerScheduler

    with pytest.raises(UserError, match="EDMEulerScheduler, which is neither"):
        objective_of(EDMEulerScheduler())


def test_a_transformer_trains_merges_and_samples(flow: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = {"method": "hra", "rank": 4, "max_train_steps": 3, "learning_rate": 0.05}
    assert train(flow, make_images(tmp_path / "photos"), out, **flags) == 0
    losses = [event["loss"] for event in read_events(out / "events.jsonl") if "loss" in event]
    assert len(losses) >= 3
    assert np.isfinite(losses).all()

    base = load_base(str(flow))
    request = GenerateRequest.repeat("a photo of sks dog", num_images=2)
    plain = generate(base, request)
    adapters = AdapterSet.load(base, out)
    assert adapters.num_parameters > 0
    adapted = generate(base, request)
    adapters.merge()
    merged = generate(base, request)
    pixels = [np.asarray(images, np.int16) for images in map(np.stack, (plain, adapted, merged))]
    assert np.abs(pixels[1] - pixels[0]).max() > 0
    assert np.abs(pixels[2] - pixels[1]).max() <= 1


def test_the_first_loss_is_the_velocitys_error(flow: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "0.png")
    assert train(flow, photos, out, max_train_steps=1, replay="false", method="lora") == 0
    [told] = [
        event["loss"] for event in read_events(out / "events.jsonl") if "eta_seconds" in event
    ]

    base = load_base(str(flow))
    latents = base.encode(torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1)
    draws = [
        draw(0, position, (4, 8, 8), objective=base.objective, stream="subject")
        for position in range(2)
    ]
    errors = []
    for chance in draws:
        clean = latents[0] + latents[1] * chance.posterior
        share = chance.timestep / 1000
        output = base.denoiser(
            hidden_states=((1 - share) * clean + share * chance.noise)[None],
            timestep=chance.timestep[None],
            encoder_hidden_states=base.embed("a photo of sks dog").hidden,
            pooled_projections=base.embed("a photo of sks dog").pooled,
        ).sample[0]
        errors.append((output - (chance.noise - clean)).square().mean().item())
    assert told == pytest.approx(np.mean(errors), rel=1e-4)


def test_sampling_is_that_of_an_euler_solver(flow: Path) -> None:
    base = load_base(str(flow))
    [image] = generate(
        base, GenerateRequest.repeat("a dog", num_inference_steps=4, guidance_scale=1.0)
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    latents = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))[None]
    with torch.no_grad():
        for now, following, time in zip(
            scheduler.sigmas, scheduler.sigmas[1:], scheduler.timesteps, strict=False
        ):
            velocity = base.predict(latents, time, base.embed("a dog"))
            latents = latents + (following - now) * velocity
    levels = ((base.decode(latents[0]) + 1) * 127.5).round().to(torch.uint8)
    assert np.array_equal(np.asarray(image), levels.permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def pipeline(flow: Path):
    """diffusers' pipeline over the same parts; prompts come to it as embeddings."""
    from diffusers import StableDiffusion3Pipeline

    base = load_base(str(flow))
    parts = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"))
    parts |= dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3"))
    pipeline = StableDiffusion3Pipeline(
        transformer=base.denoiser, vae=base.vae, scheduler=base.scheduler, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize("name", [None, *FLOW_SAMPLERS])
def test_samplers_by_name_equal_diffusers(flow: Path, pipeline, name: str | None) -> None:
    base = load_base(str(flow))
    request = GenerateRequest(
        ("a dog",), (7,), num_inference_steps=4, guidance_scale=3.0, sampler=name
    )
    pipeline.scheduler = new_scheduler(base, 4, (32, 32), name)
    generator = torch.Generator().manual_seed(7)
    if name == "dpm++_2m_sde":  # the pipeline would let its scheduler draw from nowhere
        pipeline.scheduler.step = partial(pipeline.scheduler.step, generator=generator)
    prompt, negative = base.embed("a dog"), base.embed("")
    expected = pipeline(
        prompt_embeds=prompt.hidden,
        pooled_prompt_embeds=prompt.pooled,
        negative_prompt_embeds=negative.hidden,
        negative_pooled_prompt_embeds=negative.pooled,
        num_inference_steps=4,
        guidance_scale=3.0,
        height=32,
        width=32,
        generator=generator,
    ).images
    assert distance(generate(base, request), expected) <= 1
    assert pipeline.scheduler.config.get("flow_shift", 3.0) == 3.0  # the base's own


@pytest.mark.parametrize(
    ("name", "dynamic", "words"),
    [
        ("ddim", False, "`sampler` is ddim, which is for diffusion.*Use one of euler, heun"),
        ("euler", True, "depends on the image's size"),
    ],
)
def test_samplers_without_a_form_for_flows_are_refused(
    flow: Path, name: str, dynamic: bool, words: str
) -> None:
    base = load_base(str(flow))
    base.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    with pytest.raises(UserError, match=words):
        new_scheduler(base, 4, (32, 32), name)


def test_a_hint_encoder_needs_a_unet(flow: Path) -> None:
    from orthodiff import control

    base = load_base(str(flow))
    with pytest.raises(UserError, match="SD3Transformer2DModel"):
        control.attach(base.denoiser, control.Canny(), factor=base.factor)

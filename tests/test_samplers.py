"""Every sampler, img2img and inpainting equal diffusers' own pipelines; bad numbers are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff.adapters.layers import shared_solves
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.schedulers import SAMPLERS, new_scheduler, sampler_name
from tests.test_generate import distance
from tests.tiny import with_prediction

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers' schedulers hand tensors to numpy, which finds them old-fashioned."""
PROMPT, SEED, STEPS = "a photo of sks dog", 7, 5
PARTS = {"safety_checker": None, "requires_safety_checker": False}


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny))


@pytest.fixture(scope="module")
def pipeline(tiny: Path):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny, **PARTS)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)


def left_half() -> Image.Image:
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    return Image.fromarray(mask)


def theirs(pipeline, name: str, base: Base, **inputs) -> list[Image.Image]:
    pipeline.scheduler = new_scheduler(base, STEPS, (32, 32), name)
    return pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        generator=[torch.Generator().manual_seed(SEED)],
        **inputs,
    ).images


@pytest.mark.parametrize(
    ("name", "guidance"), [*((name, 3.0) for name in SAMPLERS), ("ddim", 1.0), ("ddim", 0.0)]
)
def test_samplers_equal_diffusers(base: Base, pipeline, name: str, guidance: float) -> None:
    request = GenerateRequest(
        (PROMPT,), (SEED,), num_inference_steps=STEPS, guidance_scale=guidance, sampler=name
    )
    assert (
        distance(generate(base, request), theirs(pipeline, name, base, guidance_scale=guidance))
        <= 1
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_read_the_base_s_prediction(tiny: Path, tmp_path: Path, name: str) -> None:
    base = load_base(str(with_prediction(tiny, tmp_path / "v", "v_prediction")))
    assert new_scheduler(base, STEPS, (32, 32), name).config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("denoise", [0.6, 1.0])
def test_img2img_equals_diffusers(base: Base, pipeline, name: str, denoise: float) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    other = StableDiffusionImg2ImgPipeline(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    expected = theirs(other, name, base, image=photo(), strength=denoise, guidance_scale=3.0)
    request = GenerateRequest(
        (PROMPT,), (SEED,), num_inference_steps=STEPS, guidance_scale=3.0, sampler=name,
        init_images=(photo(),), denoise=denoise,
    )  # fmt: skip
    assert distance(generate(base, request), expected) <= 1


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("denoise", [0.6, 1.0])
def test_inpainting_equals_diffusers(base: Base, pipeline, name: str, denoise: float) -> None:
    from diffusers import StableDiffusionInpaintPipeline

    other = StableDiffusionInpaintPipeline(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    expected = theirs(
        other, name, base, image=photo(), mask_image=left_half(), strength=denoise,
        guidance_scale=3.0, height=32, width=32,
    )  # fmt: skip
    request = GenerateRequest(
        (PROMPT,), (SEED,), num_inference_steps=STEPS, guidance_scale=3.0, sampler=name,
        init_images=(photo(),), masks=(left_half(),), denoise=denoise,
    )  # fmt: skip
    assert distance(generate(base, request), expected) <= 1


def test_inpainting_keeps_what_the_mask_leaves_out(base: Base) -> None:
    def paint(prompt: str) -> np.ndarray:
        request = GenerateRequest(
            (prompt,), (SEED,), num_inference_steps=STEPS, guidance_scale=3.0,
            init_images=(photo(),), masks=(left_half(),),
        )  # fmt: skip
        return np.int16(generate(base, request)[0])

    difference = np.abs(paint("a dog") - paint("the moon and the sea")).max(axis=(0, 2))
    assert difference[:8].max() > 4 * max(difference[24:].max(), 1)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("DPM++ 2M Karras", "dpm++_2m_karras"),
        ("Euler a", "euler_a"),
        ("dpm++-2m-sde", "dpm++_2m_sde"),
    ],
)
def test_names_of_web_interfaces_are_understood(written: str, name: str) -> None:
    assert sampler_name(written) == name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "eulr"}, "`sampler` is 'eulr'.*euler"),
        ({"guidance_scale": float("nan")}, "not a finite number"),
        ({"guidance_scale": float("inf")}, "not a finite number"),
        ({"denoise": 0.0}, "`denoise` is 0.0"),
        ({"denoise": float("nan")}, "`denoise` is nan"),
        ({"masks": (left_half(),)}, "no image to inpaint"),
        ({"init_images": (photo(), photo())}, "2 `init_images` came with 1 prompts"),
    ],
)
def test_bad_requests_are_refused(changes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        GenerateRequest((PROMPT,), (SEED,), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"init_images": (photo(),), "denoise": 0.1}, "leaves no whole step of 5"),
        ({"sampler": "lcm", "num_inference_steps": 60}, "cannot make 60 steps"),
    ],
)
def test_requests_that_do_not_fit_are_refused(base: Base, changes, words: str) -> None:
    settings = {"num_inference_steps": STEPS, **changes}
    with pytest.raises(UserError, match=words):
        generate(base, GenerateRequest((PROMPT,), (SEED,), **settings))


def test_non_finite_latents_are_refused(tiny: Path) -> None:
    base = load_base(str(tiny), dtype=torch.bfloat16)
    with torch.no_grad():
        base.denoiser.conv_out.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="non-finite in bfloat16 at step 1 of 5"):
        generate(base, GenerateRequest((PROMPT,), (SEED,), num_inference_steps=STEPS))


def test_a_non_finite_decoder_is_refused(tiny: Path) -> None:
    base = load_base(str(tiny))
    with torch.no_grad():
        base.vae.decoder.conv_out.bias.fill_(float("inf"))
    base.vae.decoder.conv_out.bias.data[0] = float("nan")
    with pytest.raises(UserError, match="autoencoder's output is non-finite"):
        generate(base, GenerateRequest((PROMPT,), (SEED,), num_inference_steps=1))


def test_an_attached_adapter_solves_once_a_request(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = []
    real = shared_solves._solve_together
    monkeypatch.setattr(
        shared_solves, "_solve_together", lambda layers: solved.append(1) or real(layers)
    )
    adapter = orthodiff.attach(base.denoiser, orthodiff.HRA(rank=2))
    try:
        request = GenerateRequest.repeat(PROMPT, num_inference_steps=STEPS)
        generate(base, request)
        once = len(solved)
        generate(base, request)
        assert once == len(solved) // 2 < STEPS
        with torch.no_grad():
            before = generate(base, request)
            for parameter in adapter.parameters():
                parameter.data.add_(torch.randn(parameter.shape))  # leaves no trace in versions
        assert distance(before, generate(base, request)) > 2
    finally:
        adapter.detach()

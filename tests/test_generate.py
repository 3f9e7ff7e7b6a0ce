"""Images depend on prompt and seed only, equal diffusers' own, and carry their recipe."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff.errors import UserError
from orthodiff.io.png_metadata import ImageRecipe, read_recipe, save_png
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate

BATCH_TOLERANCE = 2
"""In 1/255: matrix kernels round differently for another batch size, nothing else may differ."""


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny))


def distance(one: list[Image.Image], other: list[Image.Image]) -> int:
    pairs = zip(one, other, strict=True)
    return max(int(np.abs(np.int16(a) - np.int16(b)).max()) for a, b in pairs)


def test_same_seed_same_bits(base: Base) -> None:
    request = GenerateRequest.repeat("a photo of sks dog", num_images=2, seed=3)
    assert distance(generate(base, request), generate(base, request)) == 0


def test_the_precision_is_the_base_s_where_its_first_layer_is_adapted(tiny: Path) -> None:
    base = load_base(str(tiny), dtype=torch.bfloat16)
    adapter = orthodiff.attach(base.unet, orthodiff.HRA(rank=2), targets=["conv_in", "to_q"])
    assert base.dtype == torch.bfloat16
    inputs: list[torch.dtype] = []
    hook = base.unet.register_forward_pre_hook(lambda _, given: inputs.append(given[0].dtype))
    (image,) = generate(base, GenerateRequest.repeat("a photo of sks dog", num_images=1, seed=3))
    hook.remove()
    adapter.detach()
    assert set(inputs) == {torch.bfloat16}
    assert len(set(image.tobytes())) > 10


def test_batch_size_does_not_matter(base: Base) -> None:
    images = [
        generate(base, GenerateRequest.repeat("sks dog", num_images=5, batch_size=size))
        for size in (1, 2, 5)
    ]
    assert distance(images[0], images[1]) <= BATCH_TOLERANCE
    assert distance(images[0], images[2]) <= BATCH_TOLERANCE
    assert distance(images[0][:1], images[0][1:2]) > 10


def test_images_equal_those_of_diffusers(base: Base, tiny: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a photo of sks dog",
        negative_prompt="blurry",
        num_inference_steps=5,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(7)],
    ).images
    request = GenerateRequest(
        ("a photo of sks dog",), (7,), "blurry", num_inference_steps=5, guidance_scale=3.0
    )
    assert distance(generate(base, request), theirs) <= 1


def test_merged_equals_attached(base: Base) -> None:
    import torch

    request = GenerateRequest.repeat("a photo of sks dog", num_images=2)
    before = generate(base, request)
    adapter = orthodiff.attach(base.unet, orthodiff.HRA(rank=4))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.5)
    attached = generate(base, request)
    adapter.merge()
    merged = generate(base, request)
    adapter.detach()
    assert distance(before, attached) > 2
    assert distance(attached, merged) <= 2
    assert distance(before, generate(base, request)) == 0


def test_progress_counts_every_step_of_every_batch(base: Base) -> None:
    seen: list[tuple[int, int]] = []
    request = GenerateRequest.repeat("dog", num_images=3, batch_size=2, num_inference_steps=2)
    generate(base, request, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_size_and_mode_are_respected(base: Base) -> None:
    base.unet.train()
    (image,) = generate(base, GenerateRequest(("dog",), (0,), width=48, height=32))
    assert image.size == (48, 32)
    assert base.unet.training
    base.unet.eval()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GenerateRequest(("a", "b"), (0,)), "2 prompts came with 1 seeds"),
        (lambda: GenerateRequest((), ()), "at least one"),
        (
            lambda: GenerateRequest(("a",), (0,), num_inference_steps=0),
            "inference_steps` is 0",
        ),
        (lambda: GenerateRequest(("a",), (0,), width=30), "`width` is 30.*Use 28"),
    ],
)
def test_bad_requests_are_refused(base: Base, make, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make().resolved(base)


def test_recipe_comes_back_out_of_the_png(tmp_path: Path) -> None:
    recipe = ImageRecipe("ein süßer Hund", "", 3, 25, 2.5, 64, 64, "DDIMScheduler", "assets/pocket")
    path = save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", recipe)
    assert read_recipe(path) == recipe
    with Image.open(path) as image:
        assert "Steps: 25, Sampler: DDIM, CFG scale: 2.5, Seed: 3" in image.text["parameters"]


A1111 = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""How AUTOMATIC1111's web UI reads the last line of `parameters`."""


def test_the_parameters_are_read_by_a1111_s_parser() -> None:
    recipe = ImageRecipe(
        "a dog, 1: x", "blurry", 3, 25, 2.5, 64, 64, "DDIMScheduler", "/srv/models/pocket",
        adapter="/srv/runs/dog + runs/a, b", method="hra", strength=0.5, sampler="DPM++ 2M Karras",
        denoise=0.6, base_sha256="0123456789abcdef",
    ).shared()  # fmt: skip
    prompt, negative, last = recipe.as_parameters().split("\n")
    assert (prompt, negative) == ("a dog, 1: x", "Negative prompt: blurry")
    read = dict(A1111.findall(last))
    assert read["Adapter"].strip('"') == "dog + a, b (hra, strength 0.5)"
    assert {k: read[k] for k in ("Steps", "Sampler", "Size", "Model", "Denoising strength")} == {
        "Steps": "25", "Sampler": "DPM++ 2M Karras", "Size": "64x64", "Model": "pocket",
        "Denoising strength": "0.6",
    }  # fmt: skip
    assert read["Model hash"] == "0123456789"
    assert "/srv" not in f"{recipe}"

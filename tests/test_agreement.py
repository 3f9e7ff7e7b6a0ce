"""Images equal those of diffusers' own pipelines, for every family and objective."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from tests.tiny import with_scheduler

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers' Euler scheduler asks numpy for a copy in an old way."""

PROMPT = "a photo of sks dog"
ZERO_SNR = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def theirs(pipeline_class: str, folder: Path, **settings: object) -> Image.Image:
    import diffusers

    pipeline = getattr(diffusers, pipeline_class).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(7)]
    return pipeline(
        PROMPT, num_inference_steps=4, guidance_scale=3.0, generator=generator, **settings
    ).images[0]


def ours(folder: Path, **settings: object) -> Image.Image:
    request = GenerateRequest(
        (PROMPT,), (7,), num_inference_steps=4, guidance_scale=3.0, **settings
    )
    return generate(load_base(str(folder)), request)[0]


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest, in 1/255."""
    assert one.size == other.size
    return int(np.abs(np.int16(one) - np.int16(other)).max())


@pytest.mark.parametrize("changes", [{"prediction_type": "v_prediction"}, ZERO_SNR])
def test_objectives_of_stable_diffusion(tiny: Path, tmp_path: Path, changes: dict) -> None:
    folder = with_scheduler(tiny, tmp_path / "base", **changes)
    image = ours(folder)
    assert difference(image, theirs("StableDiffusionPipeline", folder)) <= 1
    assert difference(image, ours(tiny)) > 10


@pytest.mark.parametrize("negative", [None, "blurry"])
@pytest.mark.parametrize("size", [(32, 32), (48, 32)])
def test_stable_diffusion_xl(tiny_xl: Path, negative: str | None, size: tuple[int, int]) -> None:
    width, height = size
    wanted = theirs(
        "StableDiffusionXLPipeline",
        tiny_xl,
        negative_prompt=negative,
        width=width,
        height=height,
    )
    image = ours(tiny_xl, negative_prompt=negative or "", width=width, height=height)
    assert difference(image, wanted) <= 1


def test_xl_is_told_its_sizes(tiny_xl: Path) -> None:
    base = load_base(str(tiny_xl))
    assert base.recommended.resolution == 32
    told = base.embed(PROMPT)
    assert told.hidden.shape == (1, 32, 80)
    assert told.pooled is not None
    assert told.pooled.shape == (1, 16)
    cut = told.sized((64, 48), original=(200, 100), crop=(4, 8))
    assert cut.time_ids is not None
    assert cut.time_ids.tolist() == [[200, 100, 4, 8, 64, 48]]
    noisy, step = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        assert not torch.equal(base.predict(noisy, step, told), base.predict(noisy, step, cut))


def test_nothing_is_zeros_where_the_base_was_trained_so(tiny_xl: Path, tiny: Path) -> None:
    nothing = load_base(str(tiny_xl)).negative_embeds("")
    assert not nothing.hidden.any()
    assert nothing.time_ids is not None
    assert nothing.time_ids.any()
    base = load_base(str(tiny))
    assert torch.equal(base.negative_embeds("").hidden, base.embed("").hidden)

"""Images of what is exported are the adapter's own, through diffusers' pipeline, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import orthodiff
from tests.test_export_whole import draw_image, opened

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' about formats of its own

POCKET = Path(__file__).parent.parent / "assets" / "pocket"


def test_images_differ_by_less_than_two_levels(tmp_path: Path) -> None:
    """LoRA, kohya's file and the merged pipeline: 25 steps of the pocket model in float32."""
    pipeline = opened("sd1", POCKET)
    assert pipeline.unet.dtype == torch.float32
    settings = {"num_inference_steps": 25, "guidance_scale": 4.0, "num_images_per_prompt": 2}
    before = draw_image(pipeline, **settings)
    generator = torch.Generator().manual_seed(3)
    adapter = orthodiff.attach(pipeline.unet, orthodiff.HRA(rank=8), generator=generator)
    for parameter in adapter.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.3 * noise * parameter.std()
    adapter.save(tmp_path / "adapter", base=str(POCKET))
    expected = draw_image(pipeline, **settings)
    assert (expected - before).abs().mean() > 10 / 255
    adapter.detach()
    found = {}
    for format in ("lora", "kohya"):
        orthodiff.export(tmp_path / "adapter", tmp_path / f"{format}.safetensors", format=format)
        pipeline.load_lora_weights(tmp_path, weight_name=f"{format}.safetensors")
        found[format] = draw_image(pipeline, **settings)
        pipeline.unload_lora_weights()
    orthodiff.export(tmp_path / "adapter", tmp_path / "merged", format="merged")
    found["merged"] = draw_image(opened("sd1", tmp_path / "merged"), **settings)
    for format, images in found.items():
        difference = float((images - expected).abs().max())
        print(f"{format}: {255 * difference:.4f} / 255")
        assert difference <= 2 / 255

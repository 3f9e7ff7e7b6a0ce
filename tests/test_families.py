"""Bases are recognised, loaded as diffusers would, or refused with a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from orthodiff.errors import UserError
from orthodiff.models import FAMILIES, load_base


def copy(base: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(base, to)
    path = to / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return to


def test_a_base_brings_its_advice_and_its_parts(tiny: Path) -> None:
    base = load_base(str(tiny))
    assert base.family in FAMILIES
    assert (base.recommended.resolution, base.recommended.num_inference_steps) == (32, 3)
    assert base.factor == 4
    assert not any(parameter.requires_grad for parameter in base.unet.parameters())
    assert len(base.fingerprint()) == 64


def test_without_advice_the_usual_holds_at_native_resolution(tiny: Path, tmp_path: Path) -> None:
    folder = copy(tiny, tmp_path / "base")
    (folder / "generation_config.json").unlink()
    recommended = load_base(str(folder)).recommended
    assert (recommended.guidance_scale, recommended.num_inference_steps) == (7.5, 50)
    assert recommended.resolution == 32


def test_embedding_and_latents_equal_those_of_diffusers(tiny: Path) -> None:
    from diffusers import StableDiffusionPipeline

    base = load_base(str(tiny))
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny, safety_checker=None, requires_safety_checker=False
    )
    wanted, _ = pipeline.encode_prompt("a photo of sks dog", "cpu", 1, False)
    assert torch.equal(base.embed("a photo of sks dog").hidden, wanted)
    image = torch.rand(3, 32, 32) * 2 - 1
    latent = base.encode(image)[0]
    with torch.no_grad():
        again = pipeline.vae.decode(latent[None] / pipeline.vae.config.scaling_factor).sample[0]
    assert torch.allclose(base.decode(latent), again.clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize(
    "pipeline",
    [
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionDepth2ImgPipeline",
        "FluxPipeline",
    ],
)
def test_other_families_are_refused(tiny: Path, tmp_path: Path, pipeline: str) -> None:
    folder = copy(tiny, tmp_path / "base", _class_name=pipeline)
    with pytest.raises(UserError, match=f"{pipeline}, which is not supported"):
        load_base(str(folder))


def test_a_missing_part_is_named(tiny: Path, tmp_path: Path) -> None:
    folder = copy(tiny, tmp_path / "base")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"incomplete.*diffusion_pytorch_model"):
        load_base(str(folder))


def test_missing_and_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_base(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"model_index\.json"):
        load_base(str(tmp_path))


def test_an_inpainting_unet_is_refused(tiny: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    from tests.tiny import TINY_UNET

    folder = copy(tiny, tmp_path / "base")
    UNet2DConditionModel(**TINY_UNET, in_channels=9).save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="9 input channels"):
        load_base(str(folder))


OUTSIDE = ("../weights.safetensors", "/etc/passwd", "..", "a\\b", "sub/weights.safetensors")


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_that_leads_out_of_its_folder_is_refused(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    folder = copy(tiny, tmp_path / "base")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": name}}))
    with pytest.raises(UserError, match="is no plain name"):
        load_base(str(folder))
    index.unlink()
    named = copy(tiny, tmp_path / "named", **{name: ["diffusers", "UNet2DConditionModel"]})
    with pytest.raises(UserError, match="is no plain name"):
        load_base(str(named))


def test_sharded_weights_load(tiny: Path, tmp_path: Path) -> None:
    folder = copy(tiny, tmp_path / "base")
    unet = load_base(str(tiny)).denoiser
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="100KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    again = load_base(str(folder)).denoiser.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in unet.state_dict().items())

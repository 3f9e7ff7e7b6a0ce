"""What a loaded base does with precision, clipping, the latents' shift, and layers of training."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.training.events.log import read_events
from tests.runs import make_images, train
from tests.tiny import with_scheduler

PROMPT = "a photo of sks dog"


def changed(folder: Path, copy: Path, part: str, **config: object) -> Path:
    """A copy of a base with other entries in a part's configuration."""
    shutil.copytree(folder, copy)
    path = copy / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **config}), "utf-8")
    return copy


def modules(base: Base) -> dict[str, torch.nn.Module]:
    return {"denoiser": base.denoiser, "vae": base.vae, **{t.name: t.model for t in base.texts}}


def pixels(base: Base) -> bytes:
    request = GenerateRequest.repeat(PROMPT, num_inference_steps=2)
    return generate(base, request)[0].tobytes()


def test_clipping_of_a_scheduler_meant_for_pixels_is_off(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(with_scheduler(tiny, tmp_path / "base", clip_sample=True)))
    scheduler = base.new_scheduler(10, size=(32, 32))
    latents = torch.full((1, 4, 8, 8), 30.0)
    clean = scheduler.step(torch.zeros_like(latents), scheduler.timesteps[-1], latents)
    assert clean.pred_original_sample.min() > 5
    assert pixels(base) == pixels(load_base(str(tiny)))


def test_old_schedulers_start_a_step_later_like_diffusers_pipelines(
    tiny: Path, tmp_path: Path
) -> None:
    spacing = {"timestep_spacing": "leading"}
    old = load_base(str(with_scheduler(tiny, tmp_path / "old", steps_offset=0, **spacing)))
    peer = DDIMScheduler.from_config({**old.scheduler.config, "steps_offset": 1})
    peer.set_timesteps(7)
    assert torch.equal(old.new_scheduler(7, size=(32, 32)).timesteps, peer.timesteps)


def test_latents_are_shifted_and_scaled_as_the_autoencoder_says(tiny: Path, tmp_path: Path) -> None:
    folder = changed(tiny, tmp_path / "base", "vae", shift_factor=0.3, scaling_factor=1.5)
    base, vae = load_base(str(folder)), AutoencoderKL.from_pretrained(folder / "vae")
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(image[None]).latent_dist
        mean, deviation = base.encode(image)
        assert torch.allclose(mean, (posterior.mean[0] - 0.3) * 1.5, atol=1e-5)
        assert torch.allclose(deviation, posterior.std[0] * 1.5, atol=1e-5)
        again = vae.decode(mean[None] / 1.5 + 0.3).sample[0].clamp(-1, 1)
    assert torch.allclose(base.decode(mean), again, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_parts_have_the_precision_asked_for_whatever_the_files_have(
    tiny: Path, tmp_path: Path, dtype: torch.dtype, stored: torch.dtype
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny, folder)
    for path in [*folder.glob("[uvt]*/*.safetensors")]:
        tensors = {name: t.to(stored) for name, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    base = load_base(str(folder), dtype=dtype)
    for name, module in modules(base).items():
        expected = torch.float32 if name == "vae" else dtype
        assert {p.dtype for p in module.parameters()} == {expected}, name
    assert base.dtype == dtype
    assert base.decode(torch.zeros(4, 8, 8, dtype=dtype)).dtype == torch.float32
    assert base.encode(torch.zeros(3, 32, 32)).dtype == torch.float32


def test_loaded_parts_are_frozen_and_not_in_training_mode(tiny: Path, tiny_xl: Path) -> None:
    for folder in (tiny, tiny_xl):
        for name, module in modules(load_base(str(folder))).items():
            assert not any(part.training for part in module.modules()), name
            assert not any(p.requires_grad for p in module.parameters()), name


@pytest.fixture(scope="module")
def dropping(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with dropout in its UNet: only in training mode does it differ."""
    return changed(tiny, tmp_path_factory.mktemp("dropping") / "base", "unet", dropout=0.5)


def test_generation_leaves_dropout_out_and_the_mode_as_it_was(tiny: Path, dropping: Path) -> None:
    base = load_base(str(dropping))
    assert isinstance(base.denoiser, UNet2DConditionModel)
    base.denoiser.train()
    assert pixels(base) == pixels(load_base(str(tiny)))
    assert base.denoiser.training


def test_validation_leaves_dropout_out(tiny: Path, dropping: Path, tmp_path: Path) -> None:
    photos, losses = make_images(tmp_path / "photos", 1), []
    for base in (tiny, dropping):
        out = tmp_path / f"out-{len(losses)}"
        assert train(base, photos, out, max_train_steps=1, validation_samples=4) == 0
        scored = [e for e in read_events(out / "events.jsonl") if "loss_of" in e]
        losses.append([event["loss"] for event in scored])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][1] != pytest.approx(losses[1][1], rel=1e-5)  # training itself drops out

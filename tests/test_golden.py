"""Tiny trainings end where an independent twin in float64 says, whatever the flags.

Each case is there for lines that could be left out of the trainer without anything else noticing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import orthodiff
from orthodiff.models import load_base
from orthodiff.training.events.history import read_history
from tests.forks import fork_group
from tests.golden import SIDE, Golden, Twin
from tests.runs import arguments, train
from tests.tiny import with_prediction

MASK = Image.fromarray(np.tile(np.repeat([[255, 0]], 16, axis=1), (SIDE, 1)).astype(np.uint8))
CASES: dict[str, Golden] = {
    "plain": Golden(),
    "min-SNR": Golden(snr_gamma=1.0),
    "velocity": Golden(prediction="v_prediction"),
    "velocity, min-SNR": Golden(prediction="v_prediction", snr_gamma=1.0),
    "latent, min-SNR": Golden(prediction="sample", snr_gamma=1.0),
    "prior": Golden(prior_loss_weight=0.3),
    "mask": Golden(mask=MASK, unmasked_weight=0.25),
    "prior, mask": Golden(prior_loss_weight=0.3, mask=MASK),
    "clipped": Golden(max_grad_norm=1e-3),
    "batches": Golden(train_batch_size=2, gradient_accumulation_steps=3),
    "scaled rate": Golden(train_batch_size=2, gradient_accumulation_steps=2, scale_lr=True),
    "average": Golden(ema_decay=0.15, learning_rate=0.1),
    "polynomial": Golden(lr_power=2.0, lr_warmup_steps=1),
    "noise offset": Golden(noise_offset=0.5),
    "decay": Golden(adam_weight_decay=0.5),
    "reflections": Golden(method="hra"),
    "regularizer": Golden(method="hra", regularization=1e-2, gradient_accumulation_steps=2),
    "dropout": Golden(lora_dropout=0.5, gradient_accumulation_steps=2),
    "text encoder": Golden(text_encoder_lr=2e-2, prior_loss_weight=0.3),
    "processes": Golden(processes=2, prior_loss_weight=0.3, gradient_accumulation_steps=2),
    "clipped processes": Golden(processes=2, max_grad_norm=1e-3, scale_lr=True),
}
NO_FLAGS = ("steps", "prediction", "mask", "betas", "regularization", "processes")
PROMPTS = {"subject": "a photo of sks dog", "class": "a photo of a dog"}


def photo(seed: int) -> Image.Image:
    """Random colours."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def flags(golden: Golden, folder: Path) -> dict[str, object]:
    """The command line of a case."""
    given = {
        name: value for name, value in asdict(golden).items() if name not in NO_FLAGS and value
    }
    if golden.method == "hra":
        given["regularization"] = golden.regularization
    if golden.prior_loss_weight:
        given |= {"with_prior_preservation": True, "class_prompt": PROMPTS["class"]}
        given |= {"class_data_dir": folder / "class", "num_class_images": 1}
    if golden.mask:
        given |= {"mask_dir": folder / "masks", "unmasked_weight": golden.unmasked_weight}
    if golden.ema_decay:
        given["use_ema"] = True
    if golden.text_encoder_lr:
        given["train_text_encoder"] = True
    if golden.lr_power:
        given["lr_scheduler"] = "polynomial"
    return {**given, "max_train_steps": golden.steps, "rank": 2, "resolution": SIDE}


@pytest.mark.parametrize("name", CASES)
def test_a_training_ends_where_its_twin_does(name: str, tiny: Path, tmp_path: Path) -> None:
    golden, photos = CASES[name], {"subject": photo(1)}
    base = tiny
    if golden.prediction != "epsilon":
        base = with_prediction(tiny, tmp_path / "base", golden.prediction)
    if golden.prior_loss_weight:
        photos["class"] = photo(2)
    for stream, image in photos.items():
        (tmp_path / stream).mkdir()
        image.save(tmp_path / stream / "0.png")
    if golden.mask:
        (tmp_path / "masks").mkdir()
        golden.mask.save(tmp_path / "masks" / "0.png")

    expected = Twin(base, golden).train(start_of(base, golden), photos, PROMPTS)
    run(base, tmp_path, golden)

    losses = [event["loss"] for event in read_history(tmp_path / "run").steps]
    assert losses == pytest.approx(expected.losses, rel=2e-5)
    saved = {
        f"{name}:{key.removeprefix('base_model.model.')}": value.double()
        for name, folder in {"unet": ".", "text_encoder": "text_encoder"}.items()
        if (tmp_path / "run" / folder / "adapter_model.safetensors").exists()
        for key, value in load_file(tmp_path / "run" / folder / "adapter_model.safetensors").items()
    }
    assert saved.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        torch.testing.assert_close(saved[name], value, atol=2e-5, rtol=0)


def start_of(place: Path, golden: Golden) -> dict[str, torch.Tensor]:
    """Where the adapters start, with seed 0: the UNet's, then that of the text encoder."""
    method = orthodiff.LoRA(rank=2) if golden.method == "lora" else orthodiff.HRA(rank=2)
    base, generator = load_base(str(place)), torch.Generator().manual_seed(0)
    models = {"unet": (base.denoiser, orthodiff.ATTENTION)}
    if golden.text_encoder_lr:
        models["text_encoder"] = (base.texts[0].model, orthodiff.TEXT_ATTENTION)
    return {
        f"{part}:{name}": value
        for part, (model, targets) in models.items()
        for name, value in orthodiff.attach(
            model, method, targets=targets, generator=generator
        ).state_dict().items()
    }  # fmt: skip


def run(base: Path, folder: Path, golden: Golden) -> None:
    """Train in this process, or in several that meet through gloo."""
    given = flags(golden, folder)
    if golden.processes == 1:
        assert train(base, folder / "subject", folder / "run", **given) == 0
        return
    ranks = [
        arguments(
            base, folder / "subject", folder / name, cache_dir=folder / f"{name}-cache", **given
        )
        for name in ["run", *(f"rank{rank}" for rank in range(1, golden.processes))]
    ]
    processes = fork_group(ranks, folder)
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * golden.processes

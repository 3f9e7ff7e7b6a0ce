"""The pocket model's makers, on minutes of nothing: real stages, a few steps each."""

import numpy as np
import pytest
import torch
from torch import nn

from pocket import assemble
from pocket.painted.album import open_album
from pocket.painted.world import paint
from pocket.trainings import autoencoder, text, unet
from pocket.trainings.stage import Box, KernelMuon, Stage
from tests.test_world import needs_font


def test_rate_climbs_stays_and_falls_to_zero():
    box = Box(minutes=1, learning_rate=2.0, warmup=0.1, cooldown=0.4)
    assert [box.rate(p) for p in (0, 0.05, 0.1, 0.5, 0.6)] == [0, 1, 2, 2, 2]
    assert box.rate(0.8) == pytest.approx(1)
    assert box.rate(1) == 0


def test_kernel_muon_moves_kernels_in_place():
    """The twin matrix shares the kernel's storage, and its step has Muon's orthogonal shape."""
    conv = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)
    muon = KernelMuon([conv.weight], weight_decay=0.0)
    muon.param_groups[0]["lr"] = 0.1
    before = conv.weight.detach().clone()
    conv(torch.randn(2, 8, 9, 9)).square().sum().backward()
    muon.step()
    moved = (conv.weight.detach() - before).permute(0, 2, 3, 1).flatten(1)
    singular = torch.linalg.svdvals(moved)
    # five Newton-Schulz steps bring every singular value into [0.7, 1.2] of the common scale
    assert singular.max() / singular.min() < 2.5


def test_stage_stops_in_time_and_continues(tmp_path):
    """A stage cut short goes on from its saved step; a finished one does nothing more."""
    torch.manual_seed(0)
    data = torch.randn(64, 4)

    def make(minutes: float) -> tuple[Stage, nn.Module]:
        torch.manual_seed(1)
        module = nn.Linear(4, 1)
        return Stage(tmp_path, module, Box(minutes, learning_rate=0.01)), module

    stage, module = make(0.02)
    stage.run(lambda step: {"loss": module(data).square().mean()}, log_every=10_000)
    steps = stage.step
    assert steps > 0
    again, module = make(0.02)
    assert (again.step, again.progress) == (steps, 1.0)
    again.run(lambda step: {"loss": module(data).square().mean()})
    assert again.step == steps
    longer, module = make(0.03)
    longer.run(lambda step: {"loss": module(data).square().mean()}, log_every=10_000)
    assert longer.step > steps


def test_every_word_of_the_world_is_one_token():
    tokenizer = text.build_tokenizer()
    prompt = "a photo of a striped turquoise stuffed animal wearing a black top hat at night"
    assert len(tokenizer.tokenize(prompt)) == len(prompt.split(" "))
    assert len(tokenizer.tokenize("sks")) == 1


def test_unknown_words_are_spelled_not_lost():
    tokenizer = text.build_tokenizer()
    pieces = tokenizer.tokenize("a zqxj dog")
    assert "".join(pieces).replace("</w>", " ").split() == ["a", "zqxj", "dog"]
    assert len(tokenizer("word " * 99, truncation=True)["input_ids"]) == text.MAX_TOKENS


@needs_font
@pytest.mark.filterwarnings("ignore:.*requires torchvision.*")
def test_stages_end_in_a_pipeline_that_diffusers_opens(tmp_path):
    """All stages, seconds each, then the plain pipeline and the scorer from the written folder."""
    from diffusers import StableDiffusionPipeline

    parts, out = tmp_path / "parts", tmp_path / "pocket"
    album = open_album(parts / "album", count=64)
    autoencoder.train(album, parts, minutes=0.02, batch=2)
    text.train(album, parts, minutes=0.02, batch=4)
    unet.train(album, parts, minutes=0.02, batch=2, latents_count=8)
    assemble.assemble(parts, out)
    pipeline = StableDiffusionPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of sks dog", num_inference_steps=2).images[0]
    assert image.size == (64, 64)
    assert np.asarray(image).std() > 0


@needs_font
def test_psnr_of_a_perfect_copy_is_infinite_and_of_noise_low():
    class Copy(nn.Module):
        def encode(self, pixels):
            self.latent_dist, self.pixels = self, pixels
            return self

        def mode(self):
            return self.pixels

        def decode(self, latents):
            self.sample = latents + self.error
            return self

    images = np.stack([paint(1, k).image for k in range(4)])
    copy = Copy()
    copy.error = 0.02  # of [-1, 1]: one hundredth of the range, so 40 dB where nothing is clipped
    assert 39.5 < autoencoder.psnr(copy, images) < 43

"""Stable Diffusion 1.5's sizes, with random weights: published parameter counts, and two steps."""

import pytest
import torch
from torch.nn import functional

import orthodiff
from orthodiff import control
from tests.tiny import SD15_UNET


def unet(device):
    from diffusers import UNet2DConditionModel

    with torch.device(device):
        return UNet2DConditionModel(**SD15_UNET)


def test_parameter_counts_of_the_papers():
    model = unet("meta")
    hints = control.attach(model, control.Canny(), factor=8)
    assert hints.num_parameters == 1_086_480
    assert hints.encode(torch.empty(1, 3, 512, 512)).shape == (1, 320, 64, 64)
    hints.detach()
    subject = orthodiff.attach(model, orthodiff.HRA(rank=8), targets=orthodiff.ATTENTION)
    assert subject.num_parameters == 795_648
    subject.detach()
    steered = orthodiff.attach(model, orthodiff.HRA(rank=8), targets=orthodiff.ATTENTION_AND_GEGLU)
    assert steered.num_parameters == 895_488


@pytest.mark.slow
def test_two_training_steps():
    """A 512x512 control image steers; hints and reflections learn; the base does not."""
    torch.manual_seed(0)
    model = unet("cpu")
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=8), targets=orthodiff.ATTENTION_AND_GEGLU)
    hints = control.attach(model, control.Canny(), factor=8)
    learned = {**adapter.state_dict(), **hints.state_dict()}
    frozen = model.conv_out.weight.clone()
    optimizer = torch.optim.AdamW([*adapter.parameters(), *hints.parameters()], lr=1e-3)
    control_images = (torch.rand(1, 3, 512, 512) > 0.9).float()
    noisy, target = torch.randn(2, 1, 4, 64, 64)
    text = torch.randn(1, 77, 768)
    for _ in range(2):
        with hints.guided(hints.encode(control_images)):
            output = model(noisy, torch.tensor([500]), encoder_hidden_states=text).sample
        loss = functional.mse_loss(output, target)
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    now = {**adapter.state_dict(), **hints.state_dict()}
    still = [name for name in learned if torch.equal(learned[name], now[name])]
    assert not still
    assert torch.equal(model.conv_out.weight, frozen)

"""Control: hints go in where and when they should, and come back from disk bit for bit."""

import copy
import json

import pytest
import torch

import orthodiff
from orthodiff import control
from orthodiff.control.encoder import HintEncoder, channels_for
from orthodiff.errors import UserError
from tests.tiny import TINY_UNET

SIDE = 32  # pixels; latents of 8 at the tiny base's factor of 4


@pytest.fixture
def unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(**TINY_UNET).eval().requires_grad_(False)


@pytest.fixture
def steered(unet):
    generator = torch.Generator().manual_seed(1)
    return control.attach(unet, control.Canny(), factor=4, generator=generator)


def inputs(batch=2):
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(batch, 4, 8, 8, generator=generator)
    return noisy, torch.full((batch,), 500), torch.randn(batch, 5, 32, generator=generator)


def run(unet, noisy, timesteps, embeddings):
    return unet(noisy, timesteps, encoder_hidden_states=embeddings).sample


def control_images(batch=2):
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(batch, 3, SIDE, SIDE, generator=generator) > 0.8).float()


def awake(steered):
    """A control whose zero start has been left."""
    with torch.no_grad():
        for parameter in steered.parameters():
            parameter.add_(0.05)
    return steered


def test_stable_diffusion_15_has_the_published_size_and_form():
    encoder = HintEncoder(320, channels_for(8))
    assert sum(p.numel() for p in encoder.parameters()) == 1_086_480
    with torch.device("meta"):
        assert encoder.to("meta")(torch.empty(1, 3, 512, 512)).shape == (1, 320, 64, 64)


def test_weights_are_controlnets_own(unet):
    from diffusers import ControlNetModel

    rival = ControlNetModel.from_unet(
        unet, conditioning_channels=3
    ).controlnet_cond_embedding.state_dict()
    ours = HintEncoder(16, (16, 32, 96, 256)).layers.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in rival.items()}


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16, 32])
def test_one_halving_per_factor_of_two(factor):
    encoder = HintEncoder(8, channels_for(factor))
    assert encoder.factor == factor
    assert encoder(torch.rand(1, 3, 64, 32)).shape == (1, 8, 64 // factor, 32 // factor)


@torch.no_grad()
def test_starts_as_the_base(unet, steered):
    before = run(unet, *inputs())
    with steered.guided(steered.encode(control_images())):
        assert torch.equal(run(unet, *inputs()), before)


@torch.no_grad()
def test_steers_only_within(unet, steered):
    before = run(unet, *inputs())
    hints = awake(steered).encode(control_images())
    with steered.guided(hints):
        assert not torch.allclose(run(unet, *inputs()), before)
    assert torch.equal(run(unet, *inputs()), before)


@torch.no_grad()
def test_hints_are_added_to_the_first_features(unet, steered):
    noisy, *_ = inputs()
    hints = awake(steered).encode(control_images())
    expected = unet.conv_in(noisy) + 0.5 * hints
    with steered.guided(hints, strength=0.5):
        assert torch.equal(unet.conv_in(noisy), expected)


@torch.no_grad()
def test_both_halves_of_a_guidance_batch_get_them(unet, steered):
    noisy, *_ = inputs()
    hints = awake(steered).encode(control_images())
    with steered.guided(hints):
        alone = unet.conv_in(noisy)
        assert torch.equal(unet.conv_in(torch.cat([noisy] * 2)), torch.cat([alone] * 2))


def test_refuses_another_batch_and_size(unet, steered):
    with (
        steered.guided(steered.encode(control_images(2))),
        pytest.raises(UserError, match="one control image per"),
    ):
        run(unet, *inputs(3))
    with pytest.raises(UserError, match="multiples of 4"):
        steered.encode(torch.rand(1, 3, 30, 32))


@torch.no_grad()
def test_detach_leaves_the_unet_as_it_was(unet, steered):
    steered.detach()
    assert not unet.conv_in._forward_hooks
    with awake(steered).guided(steered.encode(control_images())):  # attaches itself again
        assert unet.conv_in._forward_hooks


@torch.no_grad()
def test_follows_a_replaced_first_convolution(unet, steered):
    hints = awake(steered).encode(control_images())
    noisy, *_ = inputs()
    orthodiff.attach(unet, orthodiff.HRA(rank=2), targets=("conv_in",))
    with steered.guided(hints):
        guided = unet.conv_in(noisy)
    assert torch.equal(guided, unet.conv_in(noisy) + hints)


def test_trains(unet, steered):
    optimizer = torch.optim.SGD(steered.parameters(), lr=1e-2)
    for _ in range(2):
        with steered.guided(steered.encode(control_images())):
            run(unet, *inputs()).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in steered.parameters())


@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 0.5, 0)])
def test_settled_features_are_standard_where_the_map_is_not_as_usual(steered, colour):
    seen = []
    layers = steered.encoder.layers
    for layer in (layers.conv_in, *layers.blocks):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    default = torch.tensor(colour).view(3, 1, 1).expand(4, 3, SIDE, SIDE)
    drawn = torch.where(control_images(4) > 0, 1 - default, default)
    steered.init_from_data(drawn)
    seen.clear()
    assert not steered.encode(drawn).any()
    for features in seen:
        sizes = (
            features.transpose(0, 1).flatten(1).abs().quantile(0.99, dim=1, interpolation="lower")
        )
        torch.testing.assert_close(sizes, torch.full_like(sizes, 2.576), atol=1e-4, rtol=0)
    seen.clear()
    steered.encode(default[:1])
    for features in seen:
        middle = features[..., 3:-3, 3:-3]
        assert middle.numel() == 0 or middle.abs().max() < 1e-5


def test_settled_on_blank_maps_stays_finite(steered):
    steered.init_from_data(torch.zeros(2, 3, SIDE, SIDE))
    assert all(p.isfinite().all() for p in steered.parameters())


def test_same_seed_same_bits(unet, steered):
    again = control.attach(
        copy.deepcopy(unet), control.Canny(), factor=4, generator=torch.Generator().manual_seed(1)
    )
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in steered.state_dict().items())


def test_comes_back_bit_for_bit(unet, steered, tmp_path):
    awake(steered).save(tmp_path)
    again = control.load(unet, tmp_path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in steered.state_dict().items())
    assert again.condition == control.Canny()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "control.json",
        "hint_encoder.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"condition_type": "smell"}, "is no condition"),
        ({"settings": {"lows": 1}}, "no setting of canny"),
        ({"settings": {"low": 300}}, "low <= high"),
        ({"channels": [16, -1]}, "no hint encoder we can build"),
        ({"channels": "x"}, "cannot be read"),
        ({"width": 320}, "another base model"),
        ({"channels": [16, 32]}, "another one"),
    ],
)
def test_damaged_folders_are_refused(unet, steered, tmp_path, change, said):
    steered.save(tmp_path)
    path = tmp_path / "control.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=said):
        control.load(unet, tmp_path)


def test_truncated_weights_are_refused(unet, steered, tmp_path):
    steered.save(tmp_path)
    path = tmp_path / "hint_encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="truncated"):
        control.load(unet, tmp_path)


def test_a_state_that_does_not_fit_changes_nothing(steered):
    before = steered.state_dict()
    bad = {**before, "conv_out.bias": torch.full_like(before["conv_out.bias"], torch.nan)}
    with pytest.raises(UserError, match="not finite"):
        steered.load_state_dict(bad)
    assert all(torch.equal(v, before[k]) for k, v in steered.state_dict().items())

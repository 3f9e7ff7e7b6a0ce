"""Bases that lie on the CPU until they work, or in few bits, make the images they should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import orthodiff
from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate

REQUEST = GenerateRequest.repeat("a dog", num_images=2, num_inference_steps=2, batch_size=1)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries


def images(base: Base, request: GenerateRequest = REQUEST) -> np.ndarray:
    return np.stack(generate(base, request)).astype(int)


def adapt(base: Base, method=None):
    adapter = orthodiff.attach(
        base.denoiser, method or orthodiff.HRA(rank=2), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)) * 0.2)
    return adapter


@pytest.fixture(params=["plain", "hra", "lora"])
def method(request):
    return {"plain": None, "hra": orthodiff.HRA(rank=2), "lora": orthodiff.LoRA(rank=2)}[
        request.param
    ]


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_changes_no_image(tiny: Path, tiny_xl: Path, offload, method) -> None:
    for folder in (tiny, tiny_xl):
        everything, offloaded = (load_base(str(folder), offload=o) for o in ("none", offload))
        if method:
            adapt(everything, method)
            adapt(offloaded, method)
        assert np.array_equal(images(offloaded), images(everything))
        assert {p.device.type for p in offloaded.denoiser.parameters()} == {"cpu"}
        assert np.array_equal(images(offloaded), images(everything))  # and once more


def test_layers_are_away_while_others_work(tiny: Path) -> None:
    base = load_base(str(tiny), offload="sequential")
    first, last = base.denoiser.conv_in, base.denoiser.conv_out
    seen = []
    last.register_forward_pre_hook(lambda *_: seen.append(first.weight.device.type))
    images(base)
    assert set(seen) == {"meta"}
    assert first.weight.device.type == "cpu"


def test_each_part_leaves_before_the_next_comes(tiny_xl: Path, monkeypatch) -> None:
    """What is on the device, followed through every move; `cpu:0` stands for the device."""
    base = load_base(str(tiny_xl), offload="model", device="cpu:0")
    names = {base.denoiser: "denoiser", base.vae: "vae"}
    names |= {text.model: "texts" for text in base.texts}
    there: set[str] = set()
    order: list[set[str]] = []
    move = nn.Module.to

    def spy(module: nn.Module, device, *rest):
        if module in names and device == torch.device("cpu:0"):
            there.add(names[module])
            order.append(set(there))
        elif module in names:
            there.discard(names[module])
        return move(module, device, *rest)

    monkeypatch.setattr(nn.Module, "to", spy)
    for kind in {type(module) for module in names}:
        if "to" in vars(kind) or hasattr(kind, "to"):
            monkeypatch.setattr(kind, "to", spy)
    images(base)
    assert all(len(parts) == 1 for parts in order)
    assert [next(iter(parts)) for parts in order][-3:] != []
    assert {next(iter(parts)) for parts in order} == {"texts", "denoiser", "vae"}
    assert not there


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantized_base_takes_less_and_makes_nearly_the_same(tiny: Path, bits) -> None:
    pytest.importorskip("bitsandbytes")
    whole, packed = load_base(str(tiny)), load_base(str(tiny), quantize=bits)
    name = "time_embedding.linear_2"
    layer, original = (base.denoiser.get_submodule(name) for base in (packed, whole))
    size = layer.weight.element_size() * layer.weight.numel()
    assert size == original.weight.numel() // (2 if bits == "4bit" else 1)
    assert type(packed.denoiser.conv_in) is nn.Conv2d
    assert packed.dtype == torch.float32
    noisy = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    with torch.no_grad():
        expected, got = (
            base.predict(noisy, torch.tensor([500, 5]), base.embed("a dog").expand(2))
            for base in (whole, packed)
        )
    error = (got - expected).norm() / expected.norm()
    assert 1e-7 < error < (0.15 if bits == "4bit" else 0.05)
    adapt(packed)
    assert np.isfinite(images(packed)).all()


def test_adapters_learn_on_a_quantized_base(tiny: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = load_base(str(tiny), quantize="4bit")
    adapter = orthodiff.attach(
        base.denoiser, orthodiff.HRA(rank=2), targets="time_embedding.linear_2"
    )
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-2)
    noisy = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    losses = []
    for _ in range(5):
        output = base.predict(noisy, torch.tensor(500), base.embed("a dog").expand(2))
        loss = (output - noisy).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_what_cannot_go_together_is_refused(tiny: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="Use --offload model"):
        load_base(str(tiny), quantize="4bit", offload="sequential")
    monkeypatch.setattr("orthodiff.models.quantize.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs bitsandbytes"):
        load_base(str(tiny), quantize="4bit")


@pytest.mark.parametrize(
    "flags", [("--offload", "model"), ("--offload", "sequential"), ("--quantize_base", "8bit")]
)
def test_generate_takes_the_flags(tiny: Path, tmp_path: Path, flags) -> None:
    words = ["--prompt", "a dog", "--output_dir", str(tmp_path / "out"), *flags]
    assert main(["generate", "--pretrained_model_name_or_path", str(tiny), *words]) == 0
    assert (tmp_path / "out" / "00.png").is_file()


def test_large_images_are_decoded_in_tiles_where_memory_is_short(tiny: Path) -> None:
    base = load_base(str(tiny), offload="model")
    assert (base.tile_above, base.vae.tile_sample_min_size) == (768**2, 512)
    assert base.vae.tile_latent_min_size == 512 // base.factor
    sides: list[int] = []
    base.vae.decoder.register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[-1]))
    base.tile_above, base.vae.tile_sample_min_size = 48**2, 32  # the same, sixteen times smaller
    base.vae.tile_latent_min_size = 32 // base.factor
    for side in (48, 64):
        request = GenerateRequest.repeat("a dog", num_inference_steps=1, width=side, height=side)
        assert generate(base, request)[0].size == (side, side)
    assert sides[0] == 48 // base.factor
    assert max(sides[1:]) == 32 // base.factor

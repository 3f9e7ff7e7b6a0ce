"""Switches that trade speed and memory leave the training what it is."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

import orthodiff
from orthodiff.errors import UserError
from orthodiff.training.options import MemoryOptions
from orthodiff.training.options.adapter import make_method
from orthodiff.training.run.hardware import check_hardware, check_room
from tests.runs import make_images, train
from tests.test_loop import losses
from tests.tiny import TINY_UNET

SWITCHES = {
    "plain": {},
    "checkpointing": {"gradient_checkpointing": "true"},
    "flash": {"attention": "flash"},
    "math": {"attention": "math"},
    "math and checkpointing": {"attention": "math", "gradient_checkpointing": "true"},
    "channels last": {"channels_last": "true"},
    "tf32": {"allow_tf32": "true"},
}


@pytest.fixture(scope="module")
def told(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """The losses of the same run under every switch."""
    folder = tmp_path_factory.mktemp("switches")
    images = make_images(folder / "pictures")
    told = {}
    for name, flags in SWITCHES.items():
        assert train(tiny, images, folder / name, max_train_steps=3, **flags) == 0
        told[name] = [loss for _, loss in losses(folder / name)]
    return told


@pytest.mark.parametrize("name", [name for name in SWITCHES if name != "plain"])
def test_switches_give_the_same_losses(told: dict[str, list[float]], name: str) -> None:
    assert told[name] == pytest.approx(told["plain"], rel=1e-4)


def test_compiling_is_refused_on_a_cpu() -> None:
    """Its gradients of the bare UNet are wrong there: see docs/experiments/compiling.md."""
    options = MemoryOptions(torch_compile=True)
    with pytest.raises(UserError, match="gradients"):
        check_hardware(options, torch.device("cpu"), torch.float32)


def test_a_card_that_only_emulates_bf16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    options, cuda = MemoryOptions(mixed_precision="bf16"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda s=supported, **_: s)
        check_hardware(options, cuda, torch.float16)
        if supported:
            check_hardware(options, cuda, torch.bfloat16)
    with pytest.raises(UserError, match=r"Tesla T4 does not compute itself.* --mixed_prec"):
        check_hardware(options, cuda, torch.bfloat16)


@pytest.mark.parametrize(
    ("part", "dtype", "bits", "remedy"),
    [
        ("text encoders", torch.float32, None, "--mixed_precision bf16"),
        ("text encoders", torch.bfloat16, None, "End other programs"),
        ("autoencoder", torch.float32, None, "End other programs"),
        ("denoiser", torch.float32, None, "--mixed_precision bf16"),
        ("denoiser", torch.bfloat16, None, "--quantize_base 4bit"),
        ("denoiser", torch.bfloat16, "4bit", "a smaller base"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_with_the_switch_that_helps(
    part: str, dtype: torch.dtype, bits: str | None, remedy: str
) -> None:
    gib = {"text encoders": 1, "autoencoder": 1, "denoiser": 1, part: 3}
    models = {
        name: nn.Linear(size * 2**20, 2**30 // 2**20 // dtype.itemsize, bias=False,
                        dtype=dtype, device="meta")
        for name, size in gib.items()
    }  # fmt: skip
    base = SimpleNamespace(
        name="big",
        texts=[SimpleNamespace(model=models["text encoders"])],
        vae=models["autoencoder"],
        denoiser=models["denoiser"],
        dtype=dtype,
        device=torch.device("cuda"),
    )
    options = MemoryOptions(quantize_base=bits)
    for free in (None, 3 * 2**30):
        check_room(options, base, free)
    with pytest.raises(UserError, match=f"{part} of `big` takes 3.0 GiB, but 2.0 GiB") as refused:
        check_room(options, base, 2 * 2**30)
    assert remedy in str(refused.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch's tracer does itself
@pytest.mark.parametrize("name", orthodiff.ADAPTERS)
def test_a_traced_unet_gives_the_same_gradients(name: str) -> None:
    """What a compiler is given of our layers, run as it stands."""
    generator = torch.Generator().manual_seed(0)
    noisy, text = (torch.randn(2, *shape, generator=generator) for shape in ((4, 8, 8), (5, 32)))
    found = []
    for backend in (None, "aot_eager"):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**TINY_UNET).train()
        settings = {"block_size": 4} if "oft" in name or "boft" in name else {"rank": 4}
        generator = torch.Generator().manual_seed(0)
        adapter = orthodiff.attach(unet, make_method(name, settings), generator=generator)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        if backend:
            unet.compile(backend=backend)
        unet(noisy, torch.tensor([500, 20]), text).sample.square().mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in adapter.parameters()]))
    torch._dynamo.reset()
    error = (found[0] - found[1]).norm() / found[0].norm()
    assert error < 1e-5  # rounding, in another order


@pytest.mark.parametrize("flag", ["attention", "enable_xformers_memory_efficient_attention"])
def test_xformers_is_refused_where_it_cannot_run(
    tiny: Path,
    tmp_path: Path,
    flag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    images = make_images(tmp_path / "pictures")
    value = "xformers" if flag == "attention" else "true"
    assert train(tiny, images, tmp_path / "run", **{flag: value}) == 2
    assert "--attention sdpa" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fp16_is_refused_on_a_cpu() -> None:
    options = MemoryOptions(mixed_precision="fp16")
    with pytest.raises(UserError, match="a CPU cannot train"):
        check_hardware(options, torch.device("cpu"), torch.float16)

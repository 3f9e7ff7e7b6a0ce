"""What saves memory in training leaves the training right."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import orthodiff
from benchmarks.launches import Launches
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.models import Base, load_base
from orthodiff.training.events.log import read_events
from orthodiff.training.run.hardware import EveryNth
from tests.runs import make_images, train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries


def adapted(folder: Path, dtype: torch.dtype, method: orthodiff.Method) -> tuple[Base, list]:
    base = load_base(str(folder), dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    adapter = orthodiff.attach(base.denoiser, method, generator=generator)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return base, adapter.parameters()


def loss_of(base: Base) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    text = base.embed("a dog").expand(2)
    output = base.predict(noisy.to(base.dtype), torch.tensor([500, 5]), text)
    assert output.dtype == base.dtype
    return (output.float() - noisy).square().mean()


@pytest.mark.parametrize("method", ["hra", "oft", "boft", "lora"])
def test_a_half_precision_base_learns_as_in_float32_without_autocast(
    tiny: Path, method: str
) -> None:
    small = {"block_size": 4} if method in ("oft", "boft") else {"rank": 2}
    gradients, launches = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        base, parameters = adapted(tiny, dtype, orthodiff.ADAPTERS[method](**small))
        loss_of(base).backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in parameters)
        gradients[dtype] = torch.cat([p.grad.flatten() for p in parameters])
    for autocast in (False, True):
        with Launches() as counted, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss_of(base)
        launches[autocast] = counted.kernels.total()
    exact, half = gradients.values()
    assert torch.nn.functional.cosine_similarity(exact, half, dim=0) > 0.99
    assert (half - exact).norm() / exact.norm() < 0.15
    assert launches[False] <= launches[True]


@pytest.mark.parametrize(("interval", "again"), [(1, 5), (2, 3), (3, 2)])
def test_every_nth_block_is_computed_again_to_the_same_gradients(interval: int, again: int) -> None:
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(5))
    calls = []
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    rows = torch.randn(3, 4, generator=torch.manual_seed(0))

    def gradients(call) -> list[torch.Tensor]:
        blocks.zero_grad()
        outputs = rows
        for block in blocks:
            outputs = call(block, outputs)
        outputs.sum().backward()
        return [p.grad.clone() for p in blocks.parameters()]

    expected = gradients(lambda block, outputs: block(outputs))
    calls.clear()
    checkpointing = EveryNth(interval)
    for _ in range(2):  # the numbering holds for later passes
        calls.clear()
        got = gradients(checkpointing)
        assert all(map(torch.equal, got, expected))
        assert len(calls) == 5 + again


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantized_base_is_trained_on_and_the_adapter_fits_the_whole_one(
    tiny: Path, tmp_path: Path, bits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    run, images = tmp_path / "run", make_images(tmp_path / "images", count=1)
    flags = {"quantize_base": bits, "max_train_steps": 12, "learning_rate": 0.05, "rank": 2}
    targets = {"target_modules": "time_embedding.linear_2"} if bits == "4bit" else {}
    assert train(tiny, images, run, **flags, **targets, validation_steps=12) == 0
    scores = [e["loss"] for e in read_events(run / "events.jsonl") if e["event"] == "Scored"]
    assert scores[-1] < scores[0]
    whole = load_base(str(tiny))
    AdapterSet.load(whole, run).merge()
    packed = load_base(str(tiny), quantize=bits)
    with pytest.raises(orthodiff.UserError, match="quantized"):
        AdapterSet.load(packed, run).merge()
    config = json.loads((run / "adapter_config.json").read_text())
    assert config["peft_type"] == "HRA"
    capsys.readouterr()
    resumed = {**flags, **targets, "quantize_base": None, "resume_from_checkpoint": "latest"}
    words = {name: value for name, value in resumed.items() if value is not None}
    assert train(tiny, images, run, **{**words, "max_train_steps": 14}) == 2
    assert "`quantize_base` is None, but" in capsys.readouterr().err

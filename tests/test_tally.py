"""What lies on a GPU at which time, seen on a stand-in that counts and has no numbers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.training.options.config import parse_config
from orthodiff.training.run.assemble import build_trainer
from orthodiff.training.run.context import RunContext
from orthodiff.training.run.prepare import prepare
from orthodiff.training.tally.estimate import estimate
from orthodiff.training.tally.stand_in import DEVICE, StandIn
from orthodiff.training.tasks import TASKS
from tests.runs import arguments, make_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Accelerate remembers device and precision of another test's run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in that runs take for their GPU."""
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", str(DEVICE))
    with StandIn() as device:
        yield device


def context_of(base: Path, folder: Path, **flags: object) -> RunContext:
    images = make_images(folder / "images", count=1)
    whole = {"replay": "false", "train_batch_size": 1, **flags}
    words = arguments(base, images, folder / "run", **whole)[1:]
    task = TASKS["dreambooth"]
    return prepare(task, parse_config(words, task.config, prog="test"))


def parts(context: RunContext) -> dict[str, nn.Module]:
    base = context.base
    return {"denoiser": base.denoiser, "vae": base.vae, "text": base.texts[-1].model}


def watch(context: RunContext) -> list[tuple[str, set[str]]]:
    """Which part works, and all that are on the device meanwhile."""
    seen: list[tuple[str, set[str]]] = []

    def note(name: str) -> None:
        there = {n for n, p in parts(context).items() if next(p.parameters()).device == DEVICE}
        if (name, there) not in seen:
            seen.append((name, there))

    for name, part in parts(context).items():
        working = part.encoder if name == "vae" else part
        working.register_forward_pre_hook(lambda *_, name=name: note(name))
    return seen


def test_bytes_are_counted_while_somebody_has_them() -> None:
    with StandIn() as device:
        layer = nn.Linear(1000, 500, bias=False)
        assert device.ledger.held == 0
        layer.to(DEVICE)
        weight = 1000 * 500 * 4
        assert device.ledger.held == device.ledger.restart() == weight
        rows = torch.zeros(10, 1000, device=DEVICE)
        outputs = layer(rows)
        assert device.ledger.held == weight + 10 * 1500 * 4
        assert device.flops == 2 * 10 * 1000 * 500
        outputs.sum().backward()
        assert layer.weight.grad is not None
        assert device.ledger.peak >= 2 * weight
        layer.weight.grad = None
        del rows, outputs
        layer.to("cpu")
        assert device.ledger.held == 0
        assert layer.weight.device == torch.device("cpu")


def test_numbers_of_the_cpu_among_those_of_the_device_are_refused_as_on_a_gpu() -> None:
    with StandIn(), pytest.raises(RuntimeError, match="of the CPU"):
        torch.zeros(3, device=DEVICE) + torch.zeros(3)


def test_text_encoders_autoencoder_and_denoiser_take_turns(
    tiny_xl: Path, tmp_path: Path, device: StandIn
) -> None:
    context = context_of(tiny_xl, tmp_path)
    seen = watch(context)
    trainer = build_trainer(context, lambda event: None)
    trainer.step(1)
    assert seen == [("vae", {"vae"}), ("text", {"text"}), ("denoiser", {"denoiser"})]


def test_what_is_cached_brings_no_encoder_to_the_device(
    tiny_xl: Path, tmp_path: Path, device: StandIn
) -> None:
    build_trainer(context_of(tiny_xl, tmp_path), lambda event: None)
    context = context_of(tiny_xl, tmp_path)
    moved: list[str] = []
    for name, part in parts(context).items():
        sent = part.to
        part.to = lambda *where, name=name, sent=sent: (  # type: ignore[method-assign]
            moved.append(name) or sent(*where)
        )
    build_trainer(context, lambda event: None).step(1)
    assert moved == ["denoiser"]


def test_validation_images_borrow_the_autoencoder_alone(
    tiny_xl: Path, tmp_path: Path, device: StandIn
) -> None:
    context = context_of(tiny_xl, tmp_path, validation_prompt="a dog", validation_steps=1)
    context.base.recommended = replace(context.base.recommended, num_inference_steps=1)
    trainer = build_trainer(context, lambda event: None)
    trainer.step(1)
    seen = watch(context)
    context.base.vae.decoder.register_forward_pre_hook(
        lambda *_: seen.append(("decoder", {n for n, p in parts(context).items()
                                            if next(p.parameters()).device == DEVICE}))
    )  # fmt: skip
    trainer.validate(1)
    assert seen == [("denoiser", {"denoiser"}), ("decoder", {"denoiser", "vae"})]
    assert next(context.base.vae.parameters()).device == torch.device("cpu")


def test_text_encoders_that_are_trained_stay(
    tiny_xl: Path, tmp_path: Path, device: StandIn
) -> None:
    context = context_of(tiny_xl, tmp_path, train_text_encoder="true")
    trainer = build_trainer(context, lambda event: None)
    seen = watch(context)
    trainer.step(1)
    assert seen == [("text", {"text", "denoiser"}), ("denoiser", {"text", "denoiser"})]


def test_an_estimate_is_what_the_run_takes(tiny_xl: Path, tmp_path: Path, device: StandIn) -> None:
    context = context_of(tiny_xl, tmp_path, gradient_checkpointing="true", rank=2)
    estimated = estimate(context)
    assert {p.device.type for p in context.base.denoiser.parameters()} == {"cpu"}
    trainer = build_trainer(context, lambda event: None)
    start = device.ledger.restart()
    for step in (1, 2):
        trainer.step(step)
    assert estimated.start == pytest.approx(start, rel=0.1)
    assert estimated.step == pytest.approx(device.ledger.peak, rel=0.1)
    assert estimated.flops > 0


def test_offloading_lowers_the_peak_of_generation(tiny_xl: Path) -> None:
    peaks = {}
    request = GenerateRequest.repeat("a dog", num_inference_steps=1)
    for offload in ("none", "model", "sequential"):
        with StandIn() as device:
            base = load_base(str(tiny_xl), device=str(DEVICE), offload=offload)
            generate(base, request)
            peaks[offload] = device.ledger.peak
    assert peaks["sequential"] < peaks["model"] < peaks["none"]


@pytest.mark.parametrize(
    "flags",
    [
        {"optimizer": "adamw8bit"},
        {"quantize_base": "8bit"},
        {"quantize_base": "4bit"},
        {"gradient_checkpointing": "true", "gradient_checkpointing_interval": 2},
        {"gradient_accumulation_steps": 3, "use_ema": "true"},
    ],
    ids=lambda flags: " ".join(f"{name} {value}" for name, value in flags.items()),
)
def test_a_plan_knows_every_switch_of_memory(tiny: Path, tmp_path: Path, flags: dict) -> None:
    context = context_of(tiny, tmp_path, mixed_precision="bf16", **flags)
    counted = estimate(context)
    parts = (context.base.denoiser,)
    weights = sum(t.nbytes for part in parts for t in (*part.parameters(), *part.buffers()))
    assert weights < counted.step < weights + 20 * 2**20
    assert counted.flops > 0

"""One loop for all methods: it learns, repeats itself bit for bit, and goes on where it stopped."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orthodiff import ADAPTERS
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.models import load_base
from orthodiff.training.cli.main import main
from orthodiff.training.events.history import read_history
from orthodiff.training.events.log import read_events
from orthodiff.training.events.signals import StopSignal
from orthodiff.training.loop import Trainer
from orthodiff.training.optim.step import OptimizerStep, Update
from tests.runs import arguments, make_images, train, weights


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


def losses(folder: Path) -> list[tuple[int, float]]:
    events = read_events(folder / "events.jsonl")
    return [(event["step"], event["loss"]) for event in events if event["event"] == "Step"]


@pytest.mark.parametrize("method", ADAPTERS)
def test_every_method_trains_and_tells(
    tiny: Path, images: Path, tmp_path: Path, method: str
) -> None:
    size = {"block_size": 4} if "block_size" in ADAPTERS[method].__dataclass_fields__ else {}
    out = tmp_path / "run"
    assert train(tiny, images, out, method=method, max_train_steps=2, **size) == 0
    events = read_events(out / "events.jsonl")
    names = [event["event"] for event in events]
    assert names == ["Started", "Scored", "Step", "Step", "Saved", "Scored", "Finished"]
    assert events[0]["method"] == method
    assert events[0]["parameters"] > 0
    for name in ("adapter_config.json", "adapter_model.safetensors", "config.yaml"):
        assert (out / name).is_file()


def test_layers_are_chosen_by_name_and_convolutions_may_be_among_them(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, chosen = tmp_path / "run", ["attn1.to_q", "down_blocks.0.resnets.*.conv1"]
    words = [*arguments(tiny, images, out), "--target_modules"]
    assert main([*words, *chosen]) == 0
    tensors = load_file(out / "adapter_model.safetensors")
    assert all("attn1.to_q" in name or "conv1" in name for name in tensors)
    assert any("down_blocks.0.resnets.0.conv1" in name for name in tensors)
    adapter_set = AdapterSet.load(load_base(str(tiny)), out)
    assert sum(p.numel() for p in adapter_set.parameters()) == sum(
        map(torch.numel, tensors.values())
    )
    capsys.readouterr()
    go_on = ["--resume_from_checkpoint", "latest", "--max_train_steps", "6"]
    assert main([*words, "attn1.to_q", *go_on]) == 2
    assert "`target_modules` is ['attn1.to_q'], but" in capsys.readouterr().err
    assert main([*words, *chosen, *go_on]) == 0
    assert main([*words, "to_x", "--output_dir", str(tmp_path / "none")]) == 2
    assert "to_x" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_loss_falls_when_an_image_is_learned(tiny: Path, images: Path, tmp_path: Path) -> None:
    """Both runs meet the same noise at the same step, so their losses can be compared."""
    for name, rate in (("start", 1e-9), ("learned", 1e-2)):
        train(tiny, images, tmp_path / name, learning_rate=rate, max_train_steps=25)
    start_loss = sum(loss for _, loss in losses(tmp_path / "start")[-10:])
    learned = sum(loss for _, loss in losses(tmp_path / "learned")[-10:])
    assert learned < start_loss


def test_same_seed_same_bits_and_validation_does_not_disturb(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "a")
    train(tiny, images, tmp_path / "b", validation_prompt="sks dog", validation_steps=2)
    train(tiny, images, tmp_path / "c", seed=1)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    samples = [e for e in read_events(tmp_path / "b" / "events.jsonl") if e["event"] == "Sample"]
    assert [sample["step"] for sample in samples] == [0, 2, 4]
    assert all((tmp_path / "b" / path).is_file() for e in samples for path in e["paths"])


def test_resume_is_bitwise(tiny: Path, images: Path, tmp_path: Path) -> None:
    common = {
        "method": "boft",
        "block_size": 4,
        "lr_scheduler": "constant_with_warmup",
        "lr_warmup_steps": 5,
        "gradient_accumulation_steps": 2,
    }
    train(tiny, images, tmp_path / "whole", max_train_steps=6, **common)
    part = tmp_path / "part"
    train(tiny, images, part, max_train_steps=3, checkpointing_steps=3, **common)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 6}
    assert train(tiny, images, part, **again, **common) == 0
    assert weights(part) == weights(tmp_path / "whole")
    assert losses(part) == losses(tmp_path / "whole")


def test_a_checkpoint_of_another_run_begins_a_run_and_mixes_none(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny, images, tmp_path / "a", checkpointing_steps=2)
    train(tiny, images, tmp_path / "b", seed=0)
    before = weights(tmp_path / "b")
    middle = tmp_path / "a" / "checkpoint-2"
    assert train(tiny, images, tmp_path / "b", resume_from_checkpoint=middle) == 2
    assert "already holds a finished run" in capsys.readouterr().err
    assert weights(tmp_path / "b") == before
    assert train(tiny, images, tmp_path / "c", resume_from_checkpoint=middle) == 0
    assert weights(tmp_path / "c") == weights(tmp_path / "a")
    done = tmp_path / "a" / "checkpoint-4"
    assert train(tiny, images, tmp_path / "d", resume_from_checkpoint=done) == 2
    assert "already at the end" in capsys.readouterr().err


def test_resuming_where_nothing_is_starts_at_0_and_says_so(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny, images, tmp_path / "run", resume_from_checkpoint="latest") == 0
    assert "holds no checkpoint, so the run starts at step 0" in capsys.readouterr().err


def test_resume_refuses_changes_that_would_make_another_run(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(tiny, images, out, checkpointing_steps=2)
    code = train(tiny, images, out, resume_from_checkpoint="latest", seed=7)
    assert code == 2
    assert "`seed` is 7" in capsys.readouterr().err


def test_sigterm_saves_after_the_step_and_says_so(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_step = Trainer.step

    def asked(self: Trainer, step: int, stop: StopSignal) -> Update:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return one_step(self, step, stop)

    monkeypatch.setattr(Trainer, "step", asked)
    out = tmp_path / "run"
    assert train(tiny, images, out, max_train_steps=5) == 128 + signal.SIGTERM
    assert "--resume_from_checkpoint latest" in capsys.readouterr().err
    last = read_events(out / "events.jsonl")[-1]
    assert (last["event"], last["step"]) == ("Failed", 3)
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-3"]


def test_a_run_asked_while_it_measures_takes_no_other_step(
    tiny: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = Trainer.validate

    def interrupted(self: Trainer, step: int, stop: StopSignal) -> bool:
        whole = validate(self, step, stop)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole

    monkeypatch.setattr(Trainer, "validate", interrupted)
    out, flags = tmp_path / "run", {"checkpointing_steps": 2, "validation_steps": 2}
    assert train(tiny, images, out, **flags) == 128 + signal.SIGTERM
    assert read_history(out).step == 2
    assert len(read_history(out).scores) == 2
    assert (out / "checkpoint-2").is_dir()


def test_a_second_signal_ends_a_run_at_once(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first waits for the step to end; this one is long."""
    accumulate, batches = OptimizerStep.accumulate, []

    def asked(self: OptimizerStep, gradients: Sequence[Tensor | None]) -> None:
        batches.append(gradients)
        if len(batches) in (2, 4):
            os.kill(os.getpid(), signal.SIGINT)
        accumulate(self, gradients)

    monkeypatch.setattr(OptimizerStep, "accumulate", asked)
    out = tmp_path / "run"
    assert train(tiny, images, out, gradient_accumulation_steps=9) == 128 + signal.SIGINT
    assert len(batches) == 4
    assert "stopped by SIGINT at once" in capsys.readouterr().err
    last = read_events(out / "events.jsonl")[-1]
    assert (last["event"], last["step"]) == ("Failed", 0)
    assert not list(out.glob("checkpoint-*"))


def test_accumulated_small_batches_equal_one_large_batch(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "large", train_batch_size=4, max_train_steps=2)
    flags = {"train_batch_size": 2, "gradient_accumulation_steps": 2, "max_train_steps": 2}
    train(tiny, images, tmp_path / "small", **flags)
    for (_, large), (_, small) in zip(
        losses(tmp_path / "large"), losses(tmp_path / "small"), strict=True
    ):
        assert small == pytest.approx(large, rel=1e-4)


def test_prior_images_are_made_once_and_given_ones_are_used(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    prior = {
        "with_prior_preservation": "true",
        "class_prompt": "a photo of a dog",
        "num_class_images": 3,
        "max_train_steps": 2,
    }
    train(tiny, images, tmp_path / "a", **prior)
    made = sorted((tmp_path / "cache" / "class").rglob("*.png"))
    assert len(made) == 3
    times = [path.stat().st_mtime_ns for path in made]
    train(tiny, images, tmp_path / "b", **prior)
    assert [path.stat().st_mtime_ns for path in made] == times
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    given = tmp_path / "given"
    given.mkdir()
    for path in made:
        (given / path.name).write_bytes(path.read_bytes())
    train(tiny, images, tmp_path / "c", class_data_dir=given, **prior)
    assert weights(tmp_path / "a") == weights(tmp_path / "c")
    train(tiny, images, tmp_path / "d", max_train_steps=2)
    assert weights(tmp_path / "a") != weights(tmp_path / "d")


def test_an_exploding_run_fails_and_names_the_step(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"method": "lora", "learning_rate": 1e30, "max_grad_norm": 0}
    assert train(tiny, images, tmp_path / "run", max_train_steps=20, **flags) == 1
    last = read_events(tmp_path / "run" / "events.jsonl")[-1]
    assert last["event"] == "Failed"
    assert "lower --learning_rate" in last["reason"]
    assert last["reason"] in capsys.readouterr().err

"""Optimizers, courses of the rate and averages, each on a real run."""

import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from orthodiff.errors import UserError
from orthodiff.training.cli.main import main
from orthodiff.training.optim.build import (
    OPTIMIZERS,
    check_lr_schedule,
    learning_rate_of,
    make_lr_scheduler,
    make_optimizer,
)
from orthodiff.training.optim.ema import AveragedWeights
from orthodiff.training.tasks.dreambooth import DreamBoothConfig
from tests.runs import arguments, make_images, train, weights
from tests.test_config import read

AVERAGES = {"ema": {"use_ema": "true", "ema_decay": 0.9}, "free": {"optimizer": "schedulefree"}}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


class Numbers:
    """Trained numbers behind a bundle's face."""

    def __init__(self) -> None:
        self.values = torch.nn.Parameter(torch.linspace(-1, 1, 8192))

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.values]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"values": self.values.detach().clone()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.values.copy_(state["values"])


def optimizer_of(config: DreamBoothConfig, numbers: Numbers) -> torch.optim.Optimizer:
    return make_optimizer(config, {"unet": numbers.parameters()}, {"unet": config.peak_lr})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    if name not in ("adamw", "muon"):
        pytest.importorskip({"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}.get(name, name))
    numbers = Numbers()
    optimizer = optimizer_of(read(f"--optimizer={name}"), numbers)
    averaging = AveragedWeights(numbers, optimizer, decay=None)
    start = numbers.values.square().sum().item()
    for _ in range(100):
        optimizer.zero_grad()
        numbers.values.square().sum().backward()
        optimizer.step()
    with averaging.shown():
        assert numbers.values.square().sum().item() < start


def test_adamw_is_torchs_with_the_numbers_asked_for() -> None:
    numbers, same = Numbers(), Numbers()
    flags = {"adam_beta1": 0.5, "adam_beta2": 0.8, "adam_epsilon": 0.1, "adam_weight_decay": 0.3}
    words = [f"--{name}={value}" for name, value in flags.items()]
    optimizer = optimizer_of(read("--learning_rate=0.02", *words), numbers)
    torchs = torch.optim.AdamW(
        same.parameters(), lr=0.02, betas=(0.5, 0.8), eps=0.1, weight_decay=0.3
    )
    for _ in range(3):
        for each, by in ((numbers, optimizer), (same, torchs)):
            by.zero_grad()
            each.values.square().sum().backward()
            by.step()
    torch.testing.assert_close(numbers.values, same.values, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["prodigyopt", "schedulefree", "bitsandbytes"])
def test_an_absent_optimizer_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    flag = {"prodigyopt": "--optimizer=prodigy", "schedulefree": "--optimizer=schedulefree"}
    config = read(flag.get(name, "--use_8bit_adam"))
    with pytest.raises(UserError, match=f"needs {name}, which is not installed"):
        optimizer_of(config, Numbers())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--lr_scheduler=constant"], [1, 1, 1, 1, 1]),
        (["--lr_scheduler=constant_with_warmup", "--lr_warmup_steps=2"], [0, 0.5, 1, 1, 1]),
        (["--lr_scheduler=linear"], [1, 0.75, 0.5, 0.25, 0]),
        (["--lr_scheduler=cosine"], [1, 0.854, 0.5, 0.146, 0]),
    ],
)
def test_courses_of_the_rate(flags: list[str], expected: list[float]) -> None:
    config = read("--learning_rate=1", "--max_train_steps=4", *flags)
    optimizer = optimizer_of(config, Numbers())
    schedule = make_lr_scheduler(config, optimizer)
    rates = []
    for _ in expected:
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=1e-3)


SCHEDULES = get_args(DreamBoothConfig.model_fields["lr_scheduler"].annotation)


@pytest.mark.parametrize("warm_up", [0, 1, 3, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_that_passes_the_check_lasts_the_whole_run(schedule: str, warm_up: int) -> None:
    flags = (f"--lr_scheduler={schedule}", f"--lr_warmup_steps={warm_up}", "--lr_power=0.5")
    config = read("--learning_rate=1", "--max_train_steps=3", *flags)
    if schedule == "polynomial" and warm_up == 3:  # it divides by the steps after the warm-up
        with pytest.raises(UserError, match=r"no learning rate at step 3 of 3 .*lr_warmup_steps"):
            check_lr_schedule(config, config.peak_lr)
        return
    check_lr_schedule(config, config.peak_lr)
    optimizer = optimizer_of(config, Numbers())
    scheduler = make_lr_scheduler(config, optimizer)
    for _ in range(3):
        assert 0 <= scheduler.get_last_lr()[0] <= 1
        optimizer.step()
        scheduler.step()


def test_schedules_are_checked_before_anything_is_written(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"lr_scheduler": "polynomial", "lr_warmup_steps": 3}
    for steps in ({"max_train_steps": 3}, {"num_train_epochs": 1, "train_batch_size": 1}):
        words = arguments(tiny, images, tmp_path / "run", **flags, **steps)
        if "num_train_epochs" in steps:
            place = words.index("--max_train_steps")
            del words[place : place + 2]
        assert main(words) == 2
        assert "no learning rate at step 3 of 3" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    tiny_rate = {"lr_scheduler": "polynomial", "learning_rate": 1e-8}
    assert train(tiny, images, tmp_path / "run", **tiny_rate) == 2
    assert "a peak of 1e-08" in capsys.readouterr().err


def test_a_warm_up_longer_than_the_run_is_told() -> None:
    words = ("--max_train_steps=3", "--lr_warmup_steps=3", "--lr_scheduler=cosine")
    assert any("before the learning rate has reached" in note for note in read(*words).notes())
    shorter = read(*words[1:], "--max_train_steps=4").notes()
    assert not any("before the learning rate" in note for note in shorter)


def test_the_average_is_the_formula_s() -> None:
    numbers = Numbers()
    averaging = AveragedWeights(numbers, torch.optim.SGD(numbers.parameters()), decay=0.5)
    expected = numbers.values.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            numbers.values.add_(step)
        averaging.step()
        decay = 0.0 if step == 1 else min(0.5, step / (9 + step))
        expected = decay * expected + (1 - decay) * numbers.values.detach()
    trained = numbers.values.detach().clone()
    with averaging.shown():
        torch.testing.assert_close(numbers.values.detach(), expected)
    assert torch.equal(numbers.values, trained)


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_resume_to_the_same_bits_and_samples_do_not_disturb(
    tiny: Path, images: Path, tmp_path: Path, name: str
) -> None:
    if name == "free":
        pytest.importorskip("schedulefree")
    flags = {**AVERAGES[name], "learning_rate": 1e-2}
    train(tiny, images, tmp_path / "whole", max_train_steps=4, **flags)
    part = tmp_path / "part"
    sampled = {"validation_prompt": "sks dog", "validation_steps": 1}
    train(tiny, images, part, max_train_steps=2, **sampled, **flags)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 4}
    assert train(tiny, images, part, **again, **flags) == 0
    assert weights(part) == weights(tmp_path / "whole")
    train(tiny, images, tmp_path / "plain", max_train_steps=4, learning_rate=1e-2)
    assert weights(part) != weights(tmp_path / "plain")


def test_prodigy_tells_the_rate_it_found() -> None:
    pytest.importorskip("prodigyopt")
    numbers = Numbers()
    optimizer = optimizer_of(read("--optimizer=prodigy"), numbers)
    first = learning_rate_of(optimizer)
    for _ in range(50):
        optimizer.zero_grad()
        numbers.values.square().sum().backward()
        optimizer.step()
    assert 0 < first < learning_rate_of(optimizer) < 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--use_8bit_adam", "--optimizer=prodigy"], ["use_8bit_adam", "prodigy"]),
        (["--optimizer=schedulefree", "--lr_scheduler=cosine"], ["needs no schedule"]),
        (["--optimizer=schedulefree", "--use_ema"], ["`use_ema`"]),
        (["--optimizer=adam"], ["`adamw`"]),
    ],
)
def test_contradictions_are_named(flags: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read(*flags)
    for word in words:
        assert word in str(caught.value)


def test_the_usual_rate_follows_the_method_and_the_optimizer(tmp_path: Path) -> None:
    recipe = tmp_path / "hra.yaml"
    recipe.write_text("method: hra\nrank: 4\nlearning_rate: 0.5\n")
    assert read(f"--config={recipe}").peak_lr == 0.5
    assert read(f"--config={recipe}", "--method=hra").peak_lr == 0.5
    assert (
        read(f"--config={recipe}", "--method=oft").peak_lr == read("--method=oft").peak_lr == 1e-3
    )
    assert read(f"--config={recipe}", "--method=oft", "--learning_rate=0.1").peak_lr == 0.1
    assert read("--optimizer=prodigy").peak_lr == 1

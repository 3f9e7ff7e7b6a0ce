"""What nobody gave comes from the base's family, and is said; what was given stays."""

from types import SimpleNamespace

import pytest
import torch

from orthodiff.errors import UserError
from orthodiff.training.run.defaults import FAMILY_DEFAULTS, for_base
from orthodiff.training.run.processes import start_accelerator
from tests.test_config import read


def base(family: str, resolution: int) -> SimpleNamespace:
    return SimpleNamespace(family=family, recommended=SimpleNamespace(resolution=resolution))


@pytest.mark.parametrize("method", ["hra", "oft", "boft", "lora"])
@pytest.mark.parametrize(("family", "resolution"), [("sd", 512), ("sdxl", 1024)])
def test_real_bases_learn_far_slower_than_the_pocket_model(
    family: str, resolution: int, method: str
) -> None:
    config, line = for_base(read(f"--method={method}"), base(family, resolution), precision="bf16")
    small, _ = for_base(read(f"--method={method}"), base("sd", 64), precision="no")
    assert config.peak_lr == FAMILY_DEFAULTS[family].learning_rates[method] <= small.peak_lr / 10
    assert config.train_batch_size == 1
    assert config.max_train_steps >= 800
    for part in (f"family {family}:", f"learning_rate {config.peak_lr:g}", "mixed_precision bf16",
                 f"resolution {resolution}", "train_batch_size 1"):  # fmt: skip
        assert part in line


def test_the_pocket_model_keeps_its_rates() -> None:
    config, line = for_base(read(), base("sd", 64), precision="no")
    assert config == read()
    assert "family small: learning_rate 0.003" in line


def test_what_was_given_stays_and_is_not_said_to_be_chosen() -> None:
    words = ("--learning_rate=0.5", "--train_batch_size=4", "--max_train_steps=400")
    given = read(*words, "--resolution=256", "--mixed_precision=no")
    config, line = for_base(given, base("sdxl", 1024), precision="no")
    assert config == given
    assert "learning_rate" not in line
    epochs, _ = for_base(read("--num_train_epochs=2"), base("sd", 512), precision="no")
    assert "max_train_steps" not in epochs.model_fields_set
    prodigy, _ = for_base(read("--optimizer=prodigy"), base("sd", 512), precision="no")
    assert prodigy.peak_lr == 1


def test_a_family_without_a_preset_wants_to_be_told_its_learning_rate() -> None:
    with pytest.raises(UserError, match=r"family mine, for which no preset .* --learning_rate"):
        for_base(read(), base("mine", 512), precision="no")
    for word in ("--learning_rate=0.5", "--optimizer=prodigy"):
        config, line = for_base(read(word), base("mine", 512), precision="no")
        assert config == read(word)
        assert "family mine" in line


@pytest.mark.parametrize(
    ("has_bf16", "environment", "expected"),
    [(True, None, "bf16"), (False, None, "fp16"), (True, "no", None), (True, "fp16", None)],
)
def test_a_gpu_computes_in_what_it_does_best_unless_the_launcher_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, environment: str | None, expected: str | None
) -> None:
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    monkeypatch.setattr(
        "accelerate.Accelerator",
        lambda **options: (
            chosen.append(options["mixed_precision"]) or SimpleNamespace(num_processes=1)
        ),
    )
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    if environment:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", environment)
    start_accelerator(None)
    start_accelerator("no")
    assert chosen == [expected, "no"]

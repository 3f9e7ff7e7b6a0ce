"""Nothing in accelerate's environment changes a run that flags define."""

from pathlib import Path

import pytest

from tests.runs import make_images, train, weights

HARMLESS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_GRADIENT_CLIPPING": "0.001",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


def test_variables_that_flags_decide_change_no_bit_and_are_told(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = {"mixed_precision": "no", "max_grad_norm": 0.5, "gradient_accumulation_steps": 2}
    assert train(tiny, images, tmp_path / "plain", **flags) == 0
    assert "has no effect" not in capsys.readouterr().err
    for name, value in HARMLESS.items():
        monkeypatch.setenv(name, value)
    assert train(tiny, images, tmp_path / "run", **flags) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "plain")
    notes = capsys.readouterr().err
    assert "`ACCELERATE_GRADIENT_ACCUMULATION_STEPS` is 4 in the environment and has no" in notes
    assert "use --torch_compile" in notes
    assert "use --max_grad_norm" in notes


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "switches on DeepSpeed"),
        ("ACCELERATE_USE_FSDP", "1", "switches on FSDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "switches on Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "tensor or context parallelism"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "asks for the precision fp8"),
    ],
)
def test_what_would_shard_nothing_is_refused_by_name(
    name: str,
    value: str,
    sentence: str,
    tiny: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert train(tiny, images, tmp_path / "run") == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

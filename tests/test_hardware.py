"""Switches that trade speed and memory leave the training what it is."""

import sys
from pathlib import Path

import pytest
import torch

from orthodiff.errors import UserError
from tests.runs import arguments, make_pictures, start, train
from tests.test_loop import losses
from training.hardware import check_hardware
from training.options import MemoryOptions

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
    pictures = make_pictures(folder / "pictures")
    told = {}
    for name, flags in SWITCHES.items():
        assert train(tiny, pictures, folder / name, max_train_steps=3, **flags) == 0
        told[name] = [loss for _, loss in losses(folder / name)]
    return told


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_give_the_same_losses(told: dict[str, list[float]], name: str) -> None:
    assert told[name] == pytest.approx(told["plain"], rel=1e-4)


@pytest.mark.slow
def test_a_compiled_run_gives_the_same_losses(tiny: Path, tmp_path: Path) -> None:
    """In processes of their own: torch's compiler warns of itself."""
    pictures = make_pictures(tmp_path / "pictures")
    for name, flags in (("plain", {}), ("compiled", {"torch_compile": "true"})):
        process = start(arguments(tiny, pictures, tmp_path / name, max_train_steps=3, **flags))
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    plain, compiled = (losses(tmp_path / name) for name in ("plain", "compiled"))
    assert [loss for _, loss in compiled] == pytest.approx([loss for _, loss in plain], rel=1e-4)


@pytest.mark.parametrize("flag", ["attention", "enable_xformers_memory_efficient_attention"])
def test_xformers_is_refused_where_it_cannot_run(
    tiny: Path,
    tmp_path: Path,
    flag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    pictures = make_pictures(tmp_path / "pictures")
    value = "xformers" if flag == "attention" else "true"
    assert train(tiny, pictures, tmp_path / "run", **{flag: value}) == 2
    assert "--attention sdpa" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fp16_is_refused_on_a_cpu() -> None:
    options = MemoryOptions(mixed_precision="fp16")
    with pytest.raises(UserError, match="a CPU cannot train"):
        check_hardware(options, torch.device("cpu"), torch.float16)

"""The script of eight minutes: its plumbing here, and on a GPU all of it (`make test-gpu`)."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.support.compared_adapters import COMPARED_ADAPTERS
from benchmarks.support.gpu_checks import CHECKS, EXPECTED
from benchmarks.support.gpu_setting import ROWS, Setting, step_of, unet

pytestmark = pytest.mark.heavy

TINY = Setting("cpu", is_tiny=True)


SAME_PATH = {"SD 1.5 batch 4", "SD 1.5 batch 8 checkpointing", "SDXL batch 1"}


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in SAME_PATH])
@pytest.mark.filterwarnings("ignore")  # torch.compile looks at all attributes, deprecated ones too
def test_every_check_runs_at_tiny_sizes_on_a_cpu(name: str) -> None:
    figures = CHECKS[name](TINY)
    assert figures.pop("is_right", True)
    assert figures
    numbers = [value for value in figures.values() if not isinstance(value, str)]
    assert all(0 <= number < float("inf") for number in numbers)
    assert json.loads(json.dumps(figures)) == figures
    assert set(EXPECTED) <= set(CHECKS)


@pytest.mark.parametrize("row", ROWS[2:])
def test_a_step_makes_all_its_tensors_on_the_device_of_the_base(row: str) -> None:
    """Whatever is made without naming a device lands on another one here, as it would on a GPU."""
    model, inputs = unet(TINY, "SD 1.5")
    step = step_of(COMPARED_ADAPTERS[row](model), inputs, 1)
    with torch.device("meta"):
        step()
        with pytest.raises(RuntimeError):
            inputs["latents"] + torch.ones(8, 8)


def test_figures_are_saved_and_what_hangs_is_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gpu.json"
    words = ["--tiny", "--device=cpu", "--only", "ceiling", "--json", str(path)]
    assert gpu.main(words) == 0
    saved = json.loads(path.read_text())
    assert saved["checks"]["ceiling"]["figures"]["TFLOP/s"] > 0
    assert "ceiling" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "SHARE", 0.001)
    assert gpu.main(words) == 1
    assert "not done after" in json.loads(path.read_text())["checks"]["ceiling"]["error"]
    assert gpu.main([*words, "--minutes=0"]) == 1
    assert "no time was left" in capsys.readouterr().out


def test_a_check_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """It ignores polite signals, and what it started holds its output open."""
    mark = tmp_path / "pid"
    child = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "print('begun', flush=True); time.sleep(99)"
    )
    begun = time.monotonic()
    with (tmp_path / "output").open("w+") as output, (tmp_path / "errors").open("w+") as errors:
        assert gpu.ended([sys.executable, "-c", code], output, errors, seconds=8) is None
    assert time.monotonic() - begun < 30
    assert (tmp_path / "output").read_text() == "begun\n"
    process = Path("/proc", mark.read_text())
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() - begun < 30
        time.sleep(0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_nothing_is_wrong_on_this_gpu(tmp_path: Path) -> None:
    checks = ["ceiling", "correctness", "synchronisations", "SD 1.5 batch 1"]
    assert gpu.main(["--only", *checks, "--json", str(tmp_path / "gpu.json")]) == 0

"""A dry run says what the run would take, and leaves nothing behind."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.runs import ROOT, arguments, make_images, start, train

POCKET = ROOT / "assets" / "pocket"
TOLERANCE = 0.4
"""Of the expected time: machines are shared."""


def planned(text: str) -> dict[str, str]:
    """The lines of a plan by name."""
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in text.splitlines() if "  " in line)


def test_a_plan_tells_all_and_writes_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = make_images(tmp_path / "pictures", count=5), tmp_path / "run"
    for image in images.iterdir():
        os.utime(image, (0, 0))  # old enough to be remembered by a run that is no plan
    before = sorted(tmp_path.rglob("*"))
    flags = {"max_train_steps": 50, "checkpointing_steps": 10, "gradient_accumulation_steps": 2}
    prior = {"with_prior_preservation": "true", "class_prompt": "a dog", "num_class_images": 9}
    assert train(tiny, images, run, plan="true", **flags, **prior) == 0
    assert sorted(tmp_path.rglob("*")) == before
    plan = planned(capsys.readouterr().out)
    assert plan["steps"] == f"50, {50 * 4 / 9:.1f} epochs"
    assert plan["batch"] == "4 samples a step: 1 processes x 2 x 2 accumulated"
    assert "5,888 of hra" in plan["parameters"]
    assert "5 checkpoints of " in plan["disk"]
    assert "9 images of the class" in plan["not counted"]
    peak = re.match(r"([\d.]+) (MB|GB) of this process", plan["peak memory"])
    assert peak is not None
    assert float(peak[1]) > 0


def test_the_plan_s_checkpoints_are_as_large_as_the_run_s(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = make_images(tmp_path / "pictures"), tmp_path / "run"
    train(tiny, images, run, plan="true")
    told = planned(capsys.readouterr().out)["disk"]
    train(tiny, images, run)
    saved = sum(path.stat().st_size for path in (run / "checkpoint-4").rglob("*"))
    expected = float(re.match(r"([\d.]+) kB", told)[1]) * 1000  # type: ignore[index]
    assert expected == pytest.approx(saved, rel=0.02)


@pytest.mark.slow
def test_a_run_takes_as_long_as_planned(tmp_path: Path) -> None:
    images = make_images(tmp_path / "pictures")
    words = arguments(POCKET, images, tmp_path / "run", max_train_steps=100, train_batch_size=4)
    told, errors = start([*words, "--plan"]).communicate()
    said = re.search(r"^time +(\d+) s at", told, re.MULTILINE)
    assert said is not None, errors
    begun = time.monotonic()
    process = start(words)
    process.communicate()
    assert process.returncode == 0
    assert time.monotonic() - begun == pytest.approx(float(said[1]), rel=TOLERANCE)


def test_a_continued_run_plans_its_measurements(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoint lies between two measurements, so that none is due where it goes on."""
    flags = {
        "validation_prompt": "a dog", "num_validation_images": 1, "validation_steps": 2,
        "scorer": "none", "resolution": 32,
    }  # fmt: skip
    images = make_images(tmp_path / "pictures")
    assert train(tiny, images, tmp_path / "run", max_train_steps=3, **flags) == 0
    again = {"resume_from_checkpoint": "latest", "plan": "true", "max_train_steps": 9}
    assert train(tiny, images, tmp_path / "run", **again, **flags) == 0
    assert "0.0 s to measure" not in capsys.readouterr().out

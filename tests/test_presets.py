"""The recipes for Stable Diffusion agree with the defaults, and tell what was counted for them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from benchmarks import hollow
from benchmarks.memory_run import PRESETS, count_preset
from orthodiff.studio.services.settings.presets import advise
from orthodiff.training.cli.plan import gpu_memory, gpu_time
from orthodiff.training.run.defaults import FAMILY_DEFAULTS
from orthodiff.training.tally.estimate import RunEstimate
from tests.runs import ROOT

FAMILIES = {"sd15": "sd", "sdxl": "sdxl"}
RESULTS = ROOT / "benchmarks" / "results" / "memory_run.json"


def header(path: str) -> dict[str, str]:
    """What the comments above a recipe say, by their first word."""
    comments = [line[1:] for line in (ROOT / path).read_text().splitlines() if line[:1] == "#"]
    entries = re.split(r"^ (?=[A-Z]\w+: )", "\n".join(comments), flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in (e.split(":", 1) for e in entries)}


@pytest.mark.parametrize("path", PRESETS)
def test_a_preset_has_the_settings_of_its_family(path: str) -> None:
    settings = yaml.safe_load((ROOT / path).read_text())
    family = FAMILIES[Path(path).parent.name]
    defaults = FAMILY_DEFAULTS[family]
    assert settings["learning_rate"] == defaults.learning_rates[settings["method"]]
    assert settings["train_batch_size"] == defaults.settings["train_batch_size"]
    page = advise(settings["pretrained_model_name_or_path"], "hra", Path(path).stem)
    for name in ("max_train_steps", "learning_rate", "train_batch_size", "resolution"):
        assert settings[name] == getattr(page, name)


@pytest.mark.parametrize("path", PRESETS)
def test_a_preset_tells_what_plan_counts(path: str) -> None:
    steps = yaml.safe_load((ROOT / path).read_text())["max_train_steps"]
    counted = json.loads(RESULTS.read_text())["runs"][path]
    del counted["peak"]
    said = header(path)
    assert said["Memory"] == gpu_memory(RunEstimate(**counted))
    assert said["Minutes"] == gpu_time(RunEstimate(**counted), steps)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PRESETS if "balanced" in path])
def test_what_plan_counts_is_what_was_recorded(path: str) -> None:
    hollow.register()
    recorded = json.loads(RESULTS.read_text())["runs"][path]
    assert count_preset(path) == pytest.approx(recorded, rel=0.01)

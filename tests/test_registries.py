"""Outside packages add bases, conditions and metrics, by an entry point or by one call."""

import logging
import sys
from pathlib import Path

import pytest

from orthodiff.control import CONDITIONS, Canny, condition_of, register_condition
from orthodiff.errors import UserError
from orthodiff.evaluation.metrics import METRICS
from orthodiff.models import FAMILIES
from orthodiff.registry import Registry

MODULE = """
from orthodiff.control import Canny
from orthodiff.models import StableDiffusion

class Sobel(Canny):
    name = "sobel"

class Other(StableDiffusion):
    family = "other"
    pipelines = ("OtherPipeline",)

def sobel_scores(found, wanted):
    return {}
"""
ENTRIES = """
[orthodiff.conditions]
sobel = outside_package:Sobel
[orthodiff.models]
other = outside_package:Other
[orthodiff.metrics]
sobel = outside_package:sobel_scores
[tests.things]
good = outside_package:Sobel
broken = outside_package:Missing
taken = outside_package:Other
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An installed package, as `pip install` leaves one."""
    (tmp_path / "outside_package.py").write_text(MODULE, "utf-8")
    info = tmp_path / "outside_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (CONDITIONS, METRICS, FAMILIES):
        monkeypatch.setattr(registry, "_installed", None)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    yield
    sys.modules.pop("outside_package", None)


def test_entry_points_are_found_when_first_looked_for(package: None) -> None:
    assert "outside_package" not in sys.modules
    assert condition_of("sobel", {"low": 7}).settings()["low"] == 7
    assert FAMILIES["other"].pipelines == ("OtherPipeline",)
    assert METRICS["sobel"]([], []) == {}
    assert {"canny", "sobel"} <= set(CONDITIONS)
    with pytest.raises(KeyError):
        CONDITIONS["unknown"]


def test_what_cannot_be_loaded_is_named_once(package: None, caplog) -> None:
    things = Registry("thing", group="tests.things", builtin={"taken": int})
    with caplog.at_level(logging.WARNING):
        assert list(things) == list(things) == ["taken", "good"]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "`taken`, a name that is taken" in messages[0]
    assert "`broken` of outside_package:Missing cannot be loaded" in messages[1]
    assert things["taken"] is int


def test_one_call_registers_and_a_taken_name_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(CONDITIONS, "_entries", dict(CONDITIONS._entries))

    class Mine(Canny):
        name = "mine"

    class Again(Canny):
        name = "canny"

    assert register_condition(Mine) is Mine
    assert register_condition(Mine) is Mine
    assert isinstance(condition_of("mine"), Mine)
    with pytest.raises(UserError, match="`canny` exists already"):
        register_condition(Again)

"""An adapter of another package, installed as pip does, is trained, saved, loaded and merged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import orthodiff
from orthodiff.adapters import ADAPTERS
from orthodiff.errors import UserError
from tests.laws import Stack, adapted, inputs, merges, rotates
from tests.runs import arguments, main, make_images, train

MODULE = '''
"""Givens rotations of neighbouring coordinates."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from orthodiff.adapters import RotationMethod, setting


@dataclass(frozen=True)
class Givens(RotationMethod):
    name: ClassVar[str] = "givens"
    title: ClassVar[str] = "Givens rotations"
    factor_count: ClassVar[int] = 2

    swing: float = setting(1.0, gt=0, help="What an angle is multiplied by.")

    def shapes(self, d, out):
        return {"theta": (d // 2,)}

    def prepare(self, parameters):
        theta = self.swing * parameters["theta"]
        return theta.cos(), theta.sin()

    def rotate(self, rows, factors, *, inverse=False):
        cos, sin = (factor.to(rows.dtype) for factor in factors)
        sin = -sin if inverse else sin
        x, y = rows.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1).flatten(-2)
'''
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "orthodiff-givens"
version = "1.0"
[project.entry-points."orthodiff.adapters"]
givens = "orthodiff_givens:Givens"
nonsense = "orthodiff_givens:torch"
[tool.setuptools]
py-modules = ["orthodiff_givens"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package, with nothing from the network."""
    root = tmp_path_factory.mktemp("outside")
    source = root / "source"
    source.mkdir()
    (source / "orthodiff_givens.py").write_text(MODULE, "utf-8")
    (source / "pyproject.toml").write_text(PROJECT, "utf-8")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target"]
    command = [sys.executable, "-m", "pip", "install", *options, root / "site", source]
    subprocess.run(command, check=True, capture_output=True)
    assert (root / "site" / "orthodiff_givens-1.0.dist-info" / "entry_points.txt").is_file()
    return root / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package on the path of this process, for one test."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(ADAPTERS, "_installed", None)
    monkeypatch.setattr(ADAPTERS, "_entries", dict(ADAPTERS._entries))


@pytest.mark.usefixtures("installed")
def test_a_package_adds_an_adapter_that_the_trainer_trains(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, out = make_images(tmp_path / "pictures"), tmp_path / "run"
    flags = {"method": "givens", "swing": 0.5, "learning_rate": 0.1, "max_train_steps": 3}
    assert train(tiny, images, out, **flags) == 0
    assert "nonsense" in caplog.text  # left out by name, as it is no adapter
    config = json.loads((out / "adapter_config.json").read_text("utf-8"))
    assert config["peft_type"] == "ORTHODIFF_GIVENS"  # which PEFT refuses
    loaded = orthodiff.load(orthodiff.load_base(str(tiny)).unet, out)
    assert loaded.method.settings() == {"swing": 0.5}
    # three steps of AdamW at .1 move an angle by about .3
    assert 0.1 < torch.cat(loaded.parameters()).abs().max() < 0.5
    loaded.merge()


@pytest.mark.usefixtures("installed")
def test_its_settings_are_flags_and_are_checked(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(tiny, make_images(tmp_path / "p"), tmp_path / "out", method="givens")
    assert main([*words, "--swing", "0"]) == 2
    assert "`swing` is 0.0, but it must be above 0. Use for example 1.0." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["dreambooth", "--help"])
    assert "givens: What an angle is multiplied by. [1.0]" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.usefixtures("installed")
def test_it_keeps_the_laws_of_every_rotation() -> None:
    method = ADAPTERS["givens"]()
    rotates(method, torch.float64, 1e-12)
    merges(method, torch.float64, 1e-12)
    _, adapter = adapted(method)
    with pytest.raises(UserError, match="givens has no powers, so it can only be 1"):
        adapter.strength = 0.5
    with pytest.raises(UserError, match="givens does not say by which angles"):
        adapter.rotation_angles()
    with pytest.raises(UserError, match="There is no way from Givens"):
        orthodiff.interpolate(adapter, adapted(method)[1], 0.5)
    base = Stack()
    both = orthodiff.compose(adapter, adapted(method)[1].inverse())
    torch.testing.assert_close(both.model(inputs(3)), base(inputs(3)), rtol=0, atol=1e-5)


def test_a_call_registers_a_method_and_refuses_what_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ADAPTERS, "_entries", dict(ADAPTERS._entries))

    @orthodiff.register_adapter
    @dataclass(frozen=True)
    class Mine(orthodiff.HRA):
        name: ClassVar[str] = "mine"

    assert ADAPTERS["mine"] is Mine
    assert orthodiff.register_adapter(Mine) is Mine  # once more changes nothing

    @dataclass(frozen=True)
    class Impostor(orthodiff.HRA):
        pass

    with pytest.raises(UserError, match="`hra` exists already"):
        orthodiff.register_adapter(Impostor)
    with pytest.raises(UserError, match="derives from RotationMethod"):
        orthodiff.register_adapter(dict)

    @dataclass(frozen=True)
    class NoDefault(orthodiff.RotationMethod):
        name: ClassVar[str] = "bare"
        size: int

    with pytest.raises(UserError, match="`size` of bare has no default"):
        orthodiff.register_adapter(NoDefault)

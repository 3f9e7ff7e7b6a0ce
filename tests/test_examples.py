"""The examples run, in few steps, and give what they promise."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
SHORT = ("personalize", "control", "compose", "plug_into_peft")
EXAMPLES = [ROOT / f"examples/{name}.py" for name in SHORT]
NOTEBOOK = ROOT / "examples/personalize_on_a_gpu.ipynb"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < 40


def test_personalize(tmp_path):
    example("personalize").main(tmp_path, steps=2)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    with Image.open(tmp_path / "beach.png") as image:
        assert image.size == (64, 64)


def test_control(tmp_path):
    example("control").main(tmp_path, steps=2)
    assert {path.name for path in tmp_path.iterdir()} == {"edges.png", "0.png", "1.png"}


def test_compose(tmp_path):
    """Both together, between them and half of one are three different images."""
    example("compose").main(tmp_path, steps=2)
    images = [(tmp_path / f"{name}.png").read_bytes() for name in ("both", "between", "half")]
    assert len(set(images)) == 3


def test_plug_into_peft(tmp_path):
    assert example("plug_into_peft").main(tmp_path) < 1e-4


@pytest.mark.heavy
def test_notebook_runs_on_the_pocket_model(tmp_path, monkeypatch):
    """All of its code, with the settings of its first cell exchanged for small ones."""
    cells = [
        "".join(cell["source"])
        for cell in json.loads(NOTEBOOK.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    assert all(cell.get("outputs", []) == [] for cell in json.loads(NOTEBOOK.read_text())["cells"])
    settings = {
        "BASE": "pocket",
        "PHOTOS": str(ROOT / "assets/subjects/dog"),
        "RESOLUTION": 64,
        "STEPS": 1,
        "PRECISION": "no",
        "SAMPLING_STEPS": 2,
    }
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(cells[0], names)
    assert settings.keys() <= names.keys()
    names.update(settings)
    for cell in cells[1:]:
        exec(cell, names)
    assert Path("dog.safetensors").is_file()
    assert names["difference"] < 2  # of 255: the LoRA draws what the adapter draws
    assert torch.is_grad_enabled()

"""A run's own images and scores become one sheet."""

from pathlib import Path

import pytest
from PIL import Image

from orthodiff.training.cli.main import main
from tests.runs import make_images, train


def test_a_run_becomes_a_sheet(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run, sheet = make_images(tmp_path / "p"), tmp_path / "run", tmp_path / "sheet.png"
    flags = {"validation_prompt": "a photo of sks dog", "validation_steps": 2}
    assert train(tiny, images, run, **flags) == 0
    assert main(["gallery", str(run), "--output", str(sheet)]) == 0
    with Image.open(sheet) as image:
        whole = image.size
    assert main(["gallery", str(run), "--output", str(sheet), "--steps", "0", "2", "4"]) == 0
    with Image.open(sheet) as image:
        assert image.size == whole
    capsys.readouterr()
    assert main(["gallery", str(run), "--output", str(sheet), "--steps", "3"]) == 2
    assert "Use 0, 2, 4" in capsys.readouterr().err
    assert main(["gallery", str(tmp_path), "--output", str(sheet)]) == 2
    assert "--validation_prompt" in capsys.readouterr().err

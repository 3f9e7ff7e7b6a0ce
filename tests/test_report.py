"""An evaluation replaces its own grid and report, and nobody else's."""

import json
from pathlib import Path

import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.evaluation.report import Report

REPORT = Report({"base_model": "base", "scorer": None}, Image.new("RGB", (8, 8)))


def test_an_evaluation_replaces_its_own_files(tmp_path: Path) -> None:
    REPORT.save(tmp_path)
    Report({**REPORT.values, "again": True}, REPORT.grid).save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["again"]
    (tmp_path / "report.json").unlink()  # as a crash between the two files leaves it
    REPORT.save(tmp_path)


@pytest.mark.parametrize("name", ["grid.png", "report.json"])
@pytest.mark.parametrize("content", [b"mine", b"{}", b"[1]"])
def test_files_of_others_stay(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}` was not written by an evaluation"):
        REPORT.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == content

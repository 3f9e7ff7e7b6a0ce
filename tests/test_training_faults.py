"""Names and texts of other bytes, and paths that cannot be: one sentence, or they just work."""

import os
from pathlib import Path

import pytest

from orthodiff.training.cli.main import main
from orthodiff.training.events.history import read_history
from tests.runs import arguments, make_pictures, train

OTHER = os.fsdecode(b"caf\xe9")
TEXTS = {
    "instance_prompt": {},
    "validation_prompt": {},
    "trigger_phrase": {},
    "class_prompt": {"with_prior_preservation": "true"},
    "placeholder_token": {},
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures")


@pytest.mark.parametrize("report_to", [None, "all", "none"])
def test_folders_of_other_bytes_are_written(
    tiny: Path,
    pictures: Path,
    tmp_path: Path,
    report_to: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / OTHER
    flags = {"cache_dir": tmp_path / f"{OTHER}-cache", "max_train_steps": 1}
    words = arguments(tiny, pictures, out, **flags, validation_prompt="a dog")
    place = words.index("--report_to")
    words[place : place + 2] = ["--report_to", report_to] if report_to else []
    assert main(words) == 0
    assert read_history(out).step == 1
    assert (out / "samples" / "step-000001" / "00.png").is_file()
    told = "TensorBoard cannot write into" in capsys.readouterr().err
    assert told == (report_to != "none")


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_other_bytes_are_refused_by_name(
    tiny: Path, pictures: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny, pictures, tmp_path / "run", **TEXTS[name], **{name: f"a {OTHER}"}) == 2
    assert f"`{name}` is not in UTF-8: a caf\N{REPLACEMENT CHARACTER}." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_asked_for_where_it_cannot_write_is_refused(
    tiny: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    assert train(tiny, pictures, tmp_path / OTHER, report_to="tensorboard") == 2
    assert "Use --report_to none" in capsys.readouterr().err

"""Names and texts of other bytes, and paths that cannot be: one sentence, or they just work."""

import os
from pathlib import Path

import pytest

from orthodiff.training.cli.main import main
from orthodiff.training.events.history import read_history
from tests.runs import arguments, make_images, train

OTHER = os.fsdecode(b"caf\xe9")
TEXTS = {
    "instance_prompt": {},
    "validation_prompt": {},
    "trigger_phrase": {},
    "class_prompt": {"with_prior_preservation": "true"},
    "placeholder_token": {},
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


@pytest.mark.parametrize("report_to", [None, "all", "none"])
def test_folders_of_other_bytes_are_written(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    report_to: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / OTHER
    flags = {"cache_dir": tmp_path / f"{OTHER}-cache", "max_train_steps": 1}
    words = arguments(tiny, images, out, **flags, validation_prompt="a dog")
    place = words.index("--report_to")
    words[place : place + 2] = ["--report_to", report_to] if report_to else []
    assert main(words) == 0
    assert read_history(out).step == 1
    assert (out / "samples" / "step-000001" / "00.png").is_file()
    told = "TensorBoard cannot write into" in capsys.readouterr().err
    assert told == (report_to != "none")


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_other_bytes_are_refused_by_name(
    tiny: Path, images: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny, images, tmp_path / "run", **TEXTS[name], **{name: f"a {OTHER}"}) == 2
    assert f"`{name}` is not in UTF-8: a caf\N{REPLACEMENT CHARACTER}." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_asked_for_where_it_cannot_write_is_refused(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    assert train(tiny, images, tmp_path / OTHER, report_to="tensorboard") == 2
    assert "Use --report_to none" in capsys.readouterr().err


LONG = "y" * 300


@pytest.mark.parametrize(
    "name",
    [
        "output_dir", "cache_dir", "instance_data_dir", "validation_data_dir", "logging_dir",
        "resume_from_checkpoint", "pretrained_model_name_or_path", "config",
    ],
)  # fmt: skip
def test_names_that_are_too_long_are_told_wherever_one_can_be_given(
    tiny: Path, images: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"report_to": "tensorboard", name: LONG if name == "logging_dir" else tmp_path / LONG}
    out = flags.pop("output_dir", tmp_path / "run")
    assert train(tiny, images, out, **flags) in (1, 2)
    told = capsys.readouterr().err
    assert f"{LONG}` cannot be " in told
    assert "too long" in told
    assert "Errno" not in told


@pytest.mark.parametrize("output", ["file/x.png", f"{LONG}.png", "x.txt", "."])
def test_a_gallery_that_cannot_be_written_says_so(
    tiny: Path, tmp_path: Path, images: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "run"
    assert train(tiny, images, out, max_train_steps=1, validation_prompt="a dog") == 0
    capsys.readouterr()
    assert main(["gallery", str(out), "--output", str(tmp_path / output)]) in (1, 2)
    assert capsys.readouterr().err.startswith("error: `")

"""An output folder that holds files of others: a run replaces only what a run has made."""

import shutil
from pathlib import Path

import pytest

from orthodiff.errors import UserError
from orthodiff.training.checkpoints.run_dir import check_output, open_run
from orthodiff.training.cli.main import main
from tests.runs import arguments, make_images, train

MINE = b"mine\n"
PLACES = [
    "config.yaml",
    "events.jsonl",
    "adapter_config.json",
    "adapter_model.safetensors",
    "text_encoder/adapter_config.json",
    "tokens.safetensors",
    "best/mine.txt",
    "best",
    "checkpoint-2/pytorch_lora_weights.safetensors",
    "samples/step-000000/00.png",
]


def put(folder: Path, name: str, content: bytes = MINE) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with images on the way, not to be written to."""
    root = tmp_path_factory.mktemp("finished")
    flags = {"validation_prompt": "sks dog", "checkpointing_steps": 2, "report_to": "tensorboard"}
    assert train(tiny, make_images(root / "pictures"), root / "run", **flags) == 0
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_files_of_others_are_refused_wherever_a_run_would_write(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    path = put(tmp_path, name)
    with pytest.raises(UserError, match=f"`{path}` was not made by a run") as refusal:
        check_output(tmp_path, resume=False, overwrite=overwrite)
    assert "--output_dir" in str(refusal.value)
    assert path.read_bytes() == MINE


def test_other_files_beside_a_run_are_nobodys_business(tmp_path: Path) -> None:
    for name in ("notes.txt", "samples/mine.png", "logs/mine.log", "README.md", ".lock"):
        put(tmp_path, name)
    with open_run(tmp_path, resume=False, overwrite=True):
        pass
    assert all(path.read_bytes() == MINE for path in tmp_path.rglob("*.*") if path.is_file())


def test_the_configuration_that_is_read_is_not_written_over(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = put(out, "config.yaml", b"max_train_steps: 1  # mine\n")
    words = arguments(tiny, make_images(tmp_path / "pictures"), out)
    assert main([*words, "--config", str(given)]) == 2
    assert f"`{given}` was not made by a run" in capsys.readouterr().err
    assert given.read_bytes() == b"max_train_steps: 1  # mine\n"


@pytest.mark.parametrize("name", ["best/mine.txt", "checkpoint-4/mine/notes.txt"])
def test_files_of_others_within_a_run_keep_it_from_being_replaced(run: Path, name: str) -> None:
    path = put(run, name)
    with (
        pytest.raises(UserError, match=f"`{path}` was not made by a run"),
        open_run(run, resume=False, overwrite=True),
    ):
        pass
    assert path.read_bytes() == MINE
    assert (run / "adapter_config.json").is_file()


def test_a_run_that_is_replaced_leaves_the_files_of_others(run: Path) -> None:
    mine = [put(run, name) for name in ("samples/mine.png", "samples/step-000000/mine.txt", "x.md")]
    with open_run(run, resume=False, overwrite=True):
        left = {path for path in run.rglob("*") if path.is_file()}
    assert left == {*mine, run / ".lock"}


def test_a_resumed_run_spares_what_lies_in_old_checkpoints(
    run: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = put(run, "checkpoint-2/notes.txt")
    flags = {
        "checkpointing_steps": 2,
        "checkpoints_total_limit": 2,
        "max_train_steps": 8,
        "resume_from_checkpoint": "latest",
    }
    images = run.parent / "pictures"
    make_images(images)
    assert train(tiny, images, run, **flags) == 0
    assert mine.read_bytes() == MINE
    assert caplog.text.count("checkpoint-2 is kept beyond the limit, as notes.txt lies in it") == 1


def test_what_appears_in_best_during_a_run_stays(run: Path) -> None:
    from orthodiff.training.checkpoints.sealed import copy_adapter

    mine = put(run, "best/mine.txt")
    before = (run / "best" / "adapter_model.safetensors").read_bytes()
    copy_adapter(run / "checkpoint-2", run / "best")
    assert mine.read_bytes() == MINE
    assert (run / "best" / "adapter_model.safetensors").read_bytes() != before


def test_a_page_of_others_is_refused_where_one_would_be_written(run: Path) -> None:
    path = put(run, "README.md")
    check_output(run, resume=True, overwrite=False, start_step=4)
    with pytest.raises(UserError, match=f"`{path}` was not made by a run"):
        check_output(run, resume=True, overwrite=False, start_step=4, writes_card=True)


@pytest.mark.parametrize("content", [b"[1]\n", b'{"a": 1}\n', b"no json\n"])
def test_events_of_others_are_told(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path, "events.jsonl", content)
    assert main(["gallery", str(tmp_path), "--output", str(tmp_path / "out.png")]) == 2
    assert f"`{path}` does not hold the events of a run" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["x" * 300, "file/run"], ids=["long", "under a file"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_loaded(
    tmp_path: Path, folder: str
) -> None:
    put(tmp_path, "file")
    with pytest.raises(UserError, match="cannot be written"):
        check_output(tmp_path / folder, resume=False, overwrite=False)

"""`python -m training` as users start it; bad requests exit 2 and write nothing."""

import json
import shutil
from pathlib import Path

import pytest

from orthodiff.training.cli.main import main
from orthodiff.training.events.log import read_events
from tests.runs import arguments, make_images, start, train, weights


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


@pytest.mark.parametrize("launcher", ["python", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_command_line_trains(tiny: Path, images: Path, tmp_path: Path, launcher: str) -> None:
    words = arguments(tiny, images, tmp_path / "cli")
    if launcher == "accelerate":
        options = ["--num_processes=1", "--num_machines=1", "--mixed_precision=no"]
        options += ["--dynamo_backend=no", "--cpu", "-m", "training"]
        process = start([*options, *words], module="accelerate.commands.launch")
    else:
        process = start(words)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "adapter written to" in output
    assert "step 4/4" in errors
    assert train(tiny, images, tmp_path / "here") == 0
    assert weights(tmp_path / "cli") == weights(tmp_path / "here")


def test_settings_from_yaml_alone(tiny: Path, images: Path, tmp_path: Path) -> None:
    assert train(tiny, images, tmp_path / "a", method="oft", block_size=4) == 0
    words = ["dreambooth", "--config", str(tmp_path / "a" / "config.yaml")]
    assert main([*words, "--output_dir", str(tmp_path / "b")]) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_tensorboard_gets_the_same_numbers(tiny: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    flags = {"report_to": "tensorboard", "validation_prompt": "dog"}
    assert train(tiny, images, out, **flags) == 0
    log = EventAccumulator(str(out / "logs" / "orthodiff"))
    log.Reload()
    told = [e["loss"] for e in read_events(out / "events.jsonl") if e["event"] == "Step"]
    assert [scalar.value for scalar in log.Scalars("loss")] == pytest.approx(told, rel=1e-6)


@pytest.mark.parametrize(("tracker", "trace"), [("wandb", "*.wandb"), ("trackio", "*.db")])
def test_other_trackers_are_told(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    tracker: str,
    trace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(tracker)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    flags = {"report_to": tracker, "validation_prompt": "dog", "max_train_steps": 2}
    process = start(arguments(tiny, images, tmp_path / "run", **flags))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "is told no more" not in errors
    assert list(tmp_path.rglob(trace))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"instance_data_dir": "EMPTY"}, "holds no images"),
        ({"instance_data_dir": "nowhere"}, "does not exist"),
        ({"instance_data_dir": "BROKEN"}, "notes.jpg"),
        ({"pretrained_model_name_or_path": "nowhere"}, "does not exist"),
        ({"pretrained_model_name_or_path": "FLUX"}, "FluxPipeline"),
        ({"rank": 7}, "Use an even rank"),
        ({"method": "boft", "block_size": 6}, "`block_size` is 6"),
        ({"method": "oft", "block_size": 7}, "`block_size` is 7"),
        ({"method": "hre"}, "`hra`"),
        ({"method": "lora", "block_size": 4}, "not a setting of lora"),
        ({"max_train_step": 3}, "--max_train_steps"),
        ({"resolution": 33}, "Use 32 or 36"),
        ({"resume_from_checkpoint": "checkpoint-3"}, "does not exist"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml"),
        ({"config": "PHOTO"}, "not valid YAML"),
        ({"mixed_precision": "fp8"}, "no, fp16, bf16"),
        (
            {"attention": "flash", "enable_xformers_memory_efficient_attention": "true"},
            "contradict each other",
        ),
        (
            {
                "with_prior_preservation": "true",
                "class_prompt": "a dog",
                "class_data_dir": "BROKEN",
            },
            "notes.jpg",
        ),
    ],
)
def test_bad_requests(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: dict[str, object],
    told: str,
) -> None:
    (tmp_path / "EMPTY").mkdir()
    shutil.copytree(images, tmp_path / "BROKEN")
    (tmp_path / "BROKEN" / "notes.jpg").write_text("not an image")
    (tmp_path / "FLUX").mkdir()
    index = {"_class_name": "FluxPipeline"}
    (tmp_path / "FLUX" / "model_index.json").write_text(json.dumps(index))
    places = {name: tmp_path / name for name in ("EMPTY", "BROKEN", "FLUX")}
    places["PHOTO"] = next(images.iterdir())
    before = sorted(tmp_path.rglob("*"))
    flags = {name: places.get(str(value), value) for name, value in flags.items()}
    assert train(tiny, images, tmp_path / "out", **flags) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert told in errors
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_run_is_not_overwritten_unasked(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train(tiny, images, out) == 0
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    capsys.readouterr()
    assert train(tiny, images, out, seed=1) == 2
    assert "--overwrite_output_dir" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert train(tiny, images, out, seed=1, overwrite_output_dir="true") == 0
    assert len([e for e in read_events(out / "events.jsonl") if e["event"] == "Started"]) == 1


def test_an_unknown_task_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dreambooht"]) == 2
    assert "`dreambooth`" in capsys.readouterr().err


def test_help_lists_every_method_s_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["dreambooth", "--help"])
    assert done.value.code == 0
    told = capsys.readouterr().out
    for flag in ("--rank", "--block_size", "--factors", "--snr_gamma", "--config"):
        assert flag in told


def test_a_wrong_flag_ends_the_process_with_one_sentence() -> None:
    process = start(["dreambooth", "--lerning_rate", "1"])
    output, errors = process.communicate()
    assert process.returncode == 2
    assert "--learning_rate" in errors
    assert output == ""
    assert errors.count("\n") == 1

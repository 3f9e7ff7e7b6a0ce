"""What happens to machines: full disks, lost processes, signals, locks. No run is lost by it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthodiff.training import loop
from orthodiff.training.checkpoints.sealed import damage, list_checkpoints
from orthodiff.training.events.history import read_history
from orthodiff.training.events.log import read_events
from orthodiff.training.events.signals import StopSignal
from tests.runs import ROOT, arguments, make_images, start, train, weights


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


LAUNCHERS = {
    "torch.distributed.run": ["--standalone", "--nproc_per_node=2"],
    "accelerate.commands.launch": [
        "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
        "--dynamo_backend=no",
    ],
}  # fmt: skip
"""Both fall back to gloo where there is no GPU."""


def launch(words: list[str], module: str = "torch.distributed.run") -> subprocess.Popen[str]:
    """Start a run in two processes."""
    return start([*LAUNCHERS[module], "-m", "training", *words], module=module)


def losses(out: Path) -> list[float]:
    return [event["loss"] for event in read_history(out).steps]


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("torch.distributed.run", marks=pytest.mark.slow),
        "accelerate.commands.launch",
    ],
)
def test_two_processes_see_the_batches_of_one(
    tiny: Path, images: Path, tmp_path: Path, module: str
) -> None:
    process = launch(arguments(tiny, images, tmp_path / "two", train_batch_size=2), module)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert train(tiny, images, tmp_path / "one", train_batch_size=4) == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    history = read_history(tmp_path / "two")
    assert (history.started["processes"], history.started["batch_size"]) == (2, 4)
    assert history.end
    assert history.end["samples_per_second"] > 0
    assert "on 2 processes" in errors


@pytest.mark.slow
def test_a_lost_process_ends_the_others(tiny: Path, images: Path, tmp_path: Path) -> None:
    import psutil

    out = tmp_path / "run"
    process = launch(arguments(tiny, images, out, max_train_steps=5000, checkpointing_steps=5))
    while not list_checkpoints(out) and process.poll() is None:
        time.sleep(0.01)
    main = read_history(out).started["pid"]
    workers = psutil.Process(process.pid).children(recursive=True)
    next(
        worker for worker in workers if worker.pid != main and "training" in worker.cmdline()
    ).kill()
    process.communicate(timeout=90)
    assert process.returncode != 0
    history = read_history(out)
    assert history.end
    assert history.end["event"] == "Failed"
    assert not damage(list_checkpoints(out)[-1])


def test_a_full_disk_fails_and_keeps_the_last_checkpoint(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    try:
        out = disk / "run"
        flags = {"max_train_steps": 40, "checkpointing_steps": 1, "cache_dir": tmp_path / "cache"}
        assert train(tiny, images, out, **flags) == 1
        last = read_events(out / "events.jsonl")[-1]
        assert last["event"] == "Failed"
        assert "the disk is full" in last["reason"]
        kept = list_checkpoints(out)
        assert kept
        assert not damage(kept[-1])
        assert not (out / ".aside").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_is_refused(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny, images, Path("/proc/run"), cache_dir=tmp_path / "cache") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_refused_before_the_base_is_loaded(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert train(Path("nobody/here"), images, tmp_path / "run", cache_dir=tmp_path / "file") == 2
    assert re.search("cache folder.*file` cannot be written.*--cache_dir", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_second_run_is_refused_while_the_first_lives(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    process = start(arguments(tiny, images, out, max_train_steps=5000))
    while not read_history(out).steps and process.poll() is None:
        time.sleep(0.01)
    assert train(tiny, images, out) == 2
    assert "Another process is training" in capsys.readouterr().err
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    last = read_history(out).end
    assert last
    assert last["reason"].startswith("stopped by SIGINT")
    again = {"resume_from_checkpoint": "latest", "max_train_steps": last["step"] + 1}
    assert train(tiny, images, out, **again) == 0


def test_a_damaged_checkpoint_is_passed_over_and_told(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, flags = tmp_path / "run", {"checkpointing_steps": 2}
    assert train(tiny, images, out, **flags) == 0
    whole = weights(out)
    (out / "checkpoint-4" / "training_state.pt").write_bytes(b"cut")
    capsys.readouterr()
    assert train(tiny, images, out, resume_from_checkpoint="latest", **flags) == 0
    reason = "checkpoint-4: training_state.pt is missing or cut short"
    assert f"passed over: {reason}\n" in capsys.readouterr().err
    assert read_history(out).started["start_step"] == 2
    assert read_history(out).started["passed_over"] == [reason]
    assert weights(out) == whole
    assert not damage(out / "checkpoint-4")


def test_seconds_add_up_and_the_best_can_be_loaded(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert train(tiny, images, out, validation_prompt="a photo of sks dog") == 0
    first = read_history(out)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 6}
    assert train(tiny, images, out, validation_prompt="a photo of sks dog", **again) == 0
    second = read_history(out)
    assert first.seconds
    assert second.seconds
    assert second.seconds > first.saved[-1]["seconds"]  # what came after that checkpoint is redone
    assert [event["step"] for event in second.scores] == [0, 4, 6]
    assert all(event["subject_similarity"] is not None for event in second.scores)
    assert second.end
    best = second.end["best_step"]
    assert weights(out / "best") == weights(out / f"checkpoint-{best}")
    assert json.loads((out / "best" / "adapter_config.json").read_text())["peft_type"]


def test_held_out_images_are_measured(tiny: Path, images: Path, tmp_path: Path) -> None:
    held_out = make_images(tmp_path / "held", count=2)
    flags = {"validation_data_dir": held_out, "validation_steps": 2}
    assert train(tiny, images, tmp_path / "a", **flags) == 0
    assert train(tiny, images, tmp_path / "b", **flags) == 0
    scores = [read_history(tmp_path / name).scores for name in "ab"]
    assert [s["loss"] for s in scores[0]] == [s["loss"] for s in scores[1]]
    assert {s["loss_of"] for s in scores[0]} == {"held-out pictures"}
    assert train(tiny, images, tmp_path / "c", validation_data_dir=tmp_path / "nowhere") == 2


@pytest.mark.slow
def test_processes_stop_together(tiny: Path, images: Path, tmp_path: Path) -> None:
    import psutil

    out = tmp_path / "run"
    process = launch(arguments(tiny, images, out, max_train_steps=5000))
    while not read_history(out).steps and process.poll() is None:
        time.sleep(0.01)
    main = read_history(out).started["pid"]
    other = next(w for w in psutil.Process(process.pid).children() if w.pid != main)
    other.terminate()
    process.communicate(timeout=90)
    assert process.returncode != 0
    last = read_history(out).end
    assert last
    assert last["reason"].startswith("stopped by SIGTERM after step")
    assert not damage(out / f"checkpoint-{last['step']}")


def ask_to_stop(monkeypatch: pytest.MonkeyPatch, out: Path, *, after_step: int) -> None:
    """Send SIGTERM to this process while the third image of a validation is on its way."""
    leave_off, calls = loop._leave_off, []

    def asked(stop: StopSignal | None, done: int, total: int) -> None:
        if read_history(out).step == after_step:
            calls.append(done)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        leave_off(stop, done, total)

    monkeypatch.setattr(loop, "_leave_off", asked)


def test_a_signal_leaves_images_off(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They can be made again; a scheduler's patience ends sooner than many images do."""
    out = tmp_path / "run"
    ask_to_stop(monkeypatch, out, after_step=0)
    flags = {"validation_prompt": "a dog", "num_validation_images": 40, "scorer": "none"}
    assert train(tiny, images, out, **flags) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM before the first step" in capsys.readouterr().err
    assert not read_history(out).steps
    assert not read_history(out).samples


def test_images_left_off_are_made_when_the_run_goes_on(
    tiny: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no checkpoint was due with them: one is saved then."""
    out = tmp_path / "run"
    flags = {
        "validation_prompt": "a dog", "num_validation_images": 3, "scorer": "none",
        "validation_steps": 2, "checkpointing_steps": 100, "max_train_steps": 3,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        ask_to_stop(patch, out, after_step=2)
        assert train(tiny, images, out, **flags) == 128 + signal.SIGTERM
    assert [score["step"] for score in read_history(out).scores] == [0]
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-2"]
    assert train(tiny, images, out, resume_from_checkpoint="latest", **flags) == 0
    assert [score["step"] for score in read_history(out).scores] == [0, 2, 3]


def test_a_full_disk_under_the_cache_is_told(tmp_path: Path) -> None:
    """`RLIMIT_FSIZE` stands in for the disk."""
    script = (
        "import resource, signal, sys, torch; from pathlib import Path\n"
        "from orthodiff.training.latents.store import TensorStore\n"
        "from orthodiff.training.events.failures import explain\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "store = TensorStore(Path(sys.argv[1]))\n"
        "store.add(b'a' * 16, {'a': torch.zeros(1000)})\n"
        "try: store.flush()\n"
        "except OSError as error: print(explain(error, None))\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path)]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.startswith("the disk is full (")
    assert not list(tmp_path.rglob("*.tmp"))

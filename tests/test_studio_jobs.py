"""Runs as processes: what the page says of them is what became of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import psutil
import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.studio.services.jobs.local import LocalRunner, can_resume
from orthodiff.studio.services.jobs.status import Status, process_of, read_status
from orthodiff.studio.services.jobs.store import RunStore, write_record
from orthodiff.studio.services.training_request import TrainForm, make_config
from orthodiff.studio.state import Studio
from orthodiff.studio.widgets.runs import Runs

PATIENCE = 120.0


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalRunner:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LocalRunner(RunStore(tmp_path / "runs"))


def begin(runner: LocalRunner, base: Path, name: str, *, steps: int, **settings: object) -> Path:
    """Start a run on random photos; its folder."""
    folder = runner.store.claim(name)
    form = TrainForm(
        base=str(base),
        prompt="a photo of sks dog",
        method="hra",
        settings={"rank": 4, "regularization": 0, "strict": False, **settings},
        steps=steps,
        learning_rate=1e-3,
        batch_size=1,
        seed=0,
        sample_every=1000,
        sample_prompts="",
    )
    photos = [Image.effect_noise((40, 40), 60).convert("RGB")]
    config = make_config(form, bases=[str(base)], folder=folder)
    runner.start(folder, photos=photos, config=config)
    return folder


def wait(folder: Path, until: Callable[[Status], bool]) -> Status:
    """Look at a run again and again until it is as wanted."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status = read_status(folder)
        if until(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"still {read_status(folder)}")


def test_killed_and_stopped_and_continued(runner: LocalRunner, tiny: Path) -> None:
    folder = begin(runner, tiny, "long", steps=100_000)
    assert read_status(folder).state == "starting"
    with pytest.raises(UserError, match="`long` is still being trained"):
        begin(runner, tiny, "second", steps=1)
    assert not (runner.store.root / "second").exists()

    running = wait(folder, lambda status: status.step >= 2)
    assert running.state == "running"
    assert running.total == 100_000
    assert running.eta
    process = process_of(folder)
    assert process
    assert os.getsid(process.pid) == process.pid != os.getsid(0)

    runner.stop("long")
    stopped = wait(folder, lambda status: not status.is_alive)
    assert stopped.state == "stopped"
    assert stopped.reason.startswith("stopped by SIGTERM")
    assert can_resume(folder, stopped)

    runner.resume("long")
    wait(folder, lambda status: status.state == "running" and status.step > stopped.step)
    process = process_of(folder)
    assert process
    process.send_signal(signal.SIGKILL)
    killed = wait(folder, lambda status: not status.is_alive)
    assert killed.state == "failed"
    wait(folder, lambda status: "signal 9" in status.reason)
    assert killed.log
    assert runner.active() is None
    with pytest.raises(UserError, match="not being trained"):
        runner.stop("long")


def test_the_command_s_own_sentence_is_the_reason(runner: LocalRunner) -> None:
    base = runner.store.root / "gone"
    base.mkdir(parents=True)
    folder = begin(runner, base, "homeless", steps=1)
    status = wait(folder, lambda status: not status.is_alive)
    assert status.state == "failed"
    assert "model_index.json" in status.reason
    assert runner.store.names() == ["homeless"]
    assert runner.store.finished() == []


@pytest.fixture
def training() -> Iterator[int]:
    """The id of a process that is called like a training."""
    words = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "training"]
    with subprocess.Popen(words) as process:
        yield process.pid
        process.kill()


def test_a_reused_process_id_is_not_the_run(tmp_path: Path, training: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_record(folder, training)
    assert process_of(folder) == psutil.Process(training)
    earlier = psutil.Process(training).create_time() - 60
    (folder / "job.json").write_text(json.dumps({"pid": training, "seen": earlier}))
    assert process_of(folder) is None
    assert read_status(folder).state == "failed"


def test_a_folder_from_another_computer_cannot_name_any_process(tmp_path: Path) -> None:
    (tmp_path / "copied").mkdir()
    started = {"event": "Started", "time": time.time(), "pid": os.getpid(), "steps": 5}
    (tmp_path / "copied" / "events.jsonl").write_text(json.dumps(started) + "\n")
    runner = LocalRunner(RunStore(tmp_path))
    assert runner.active() is None
    with pytest.raises(UserError, match="nothing to stop"):
        runner.stop("copied")


@pytest.mark.parametrize(
    "line", ['{"event": "Started", "time": 1}', "[1]", '{"event": "Step", "time": 1}', "{"]
)
def test_events_that_are_none_do_not_break_the_page(tmp_path: Path, line: str) -> None:
    (tmp_path / "events.jsonl").write_text(f"{line}\n")
    assert read_status(tmp_path).state == "failed"


def test_a_run_of_the_command_line_is_seen(tmp_path: Path, training: int) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    started = {"event": "Started", "time": time.time(), "pid": training, "steps": 5}
    (folder / "events.jsonl").write_text(json.dumps(started) + "\n" + '{"event": "St')
    assert read_status(folder).state == "running"
    finished = {"event": "Finished", "time": time.time(), "step": 5, "seconds": 1.0}
    (folder / "events.jsonl").write_text(f"{json.dumps(started)}\n{json.dumps(finished)}\n")
    assert read_status(folder).state == "finished"
    assert RunStore(tmp_path).names() == ["demo"]


def test_a_continued_run_stands_where_it_went_on_from(tmp_path: Path) -> None:
    steps = [{"event": "Step", "time": 1.0, "step": n, "eta_seconds": 9} for n in (1, 2, 3)]
    turns = [{"event": "Started", "time": 1.0, "pid": 0, "start_step": n} for n in (0, 2)]
    told = [turns[0], *steps, turns[1]]
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in told))
    assert read_status(tmp_path).step == 2


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/etc", "a b", "A", ".x", "x" * 61, "a\n"]
)
def test_only_plain_names(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path)
    for use in (store.folder, store.claim):
        with pytest.raises(UserError, match="cannot be the name"):
            use(name)


def test_free_names_are_valid_and_free(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.free_name("Toy Duck/../-hra") == "toy-duck-hra"
    (tmp_path / "toy-duck-hra").mkdir()
    assert store.free_name("toy duck hra") == "toy-duck-hra-2"
    assert store.free_name("../") == "run"
    with pytest.raises(UserError, match="exists already"):
        store.claim("toy-duck-hra")


def test_a_run_that_appears_is_chosen_whatever_was_chosen_before(
    tiny: Path, tmp_path: Path
) -> None:
    """A look at the folder may be on its way with the old choice while a run is started."""

    async def build() -> Runs:
        with gr.Blocks():
            return Runs(Studio.open(bases=(str(tiny),), runs=tmp_path))

    runs = asyncio.run(build())
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_text("")
        if name == "old":
            *_, seen = runs.refresh(None, {})
            assert seen["run"] == ("old", ["old"])
            assert runs.refresh("old", seen)[0] == gr.skip()
    shown, *_, seen = runs.refresh("old", seen)
    assert shown.value == seen["run"][0] == "new"
    assert runs.refresh("old", seen)[-1]["run"][0] == "old"  # now it is the visitor's choice

"""The queue of the studio: durable, guarded, fair, and true about what became of every process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orthodiff.batch.stop_request import StopRequest
from orthodiff.errors import UserError
from orthodiff.studio.api.describe import job_out
from orthodiff.studio.services.jobs.controls import NoSuchJobError
from orthodiff.studio.services.jobs.executor import process_of
from orthodiff.studio.services.jobs.folders import RunFolders
from orthodiff.studio.services.jobs.job import Job, new_id
from orthodiff.studio.services.jobs.progress import (
    history_of_job,
    judge_end,
    log_tail,
    read_batch,
    read_progress,
    stage_of,
)
from orthodiff.studio.services.jobs.scheduler import fair_choice, start_order
from orthodiff.studio.services.jobs.store import Query
from orthodiff.studio.state import Studio
from tests.photos import save

PATIENCE = 120.0
QUICK = {"method_settings": {"rank": 4}, "train_batch_size": 1, "validation_prompts": []}


@pytest.fixture
def studio(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = open_studio(tiny, tmp_path)
    yield opened
    for job in opened.jobs.store.in_status("running"):
        opened.jobs.executors[job.lane].stop(job, hard=True)
    opened.close()


def open_studio(tiny: Path, place: Path) -> Studio:
    return Studio.open(bases=[str(tiny)], data=place / "data", runs=place / "runs")


def row(folder: Path, **values: object) -> Job:
    plain = Job(new_id(), "dreambooth", "ann", "run", "queued", folder, time.time())
    return replace(plain, **values)


def submit(studio: Studio, *, owner: str = "ann", steps: int = 1, name: str = "", **config) -> Job:
    """Queue a training on two photos that this user brings."""
    scratch = studio.scratch / f"{owner}-{time.time_ns()}"
    files = [(f"{n}.png", save(scratch / f"{n}.png", n)) for n in range(2)]
    subject = studio.subjects.add(owner, files)
    settings = {**QUICK, "class_word": "dog", "max_train_steps": steps, **config}
    return studio.submit(owner, "dreambooth", settings, subject=subject.id, name=name)


def wait(studio: Studio, job: Job, until: Callable[[Job], bool]) -> Job:
    """Look at a job again and again until it is as wanted."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = studio.jobs.store.get(job.id)
        if found and until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {studio.jobs.store.get(job.id)}: {log_tail(job.folder)}")


def ended(job: Job) -> bool:
    return not job.is_active


def has_steps(job: Job) -> bool:
    return job.status == "running" and read_progress(job.folder, since=job.started).step >= 2


def test_users_take_turns(tmp_path: Path) -> None:
    waiting = [row(tmp_path, owner=o, position=p) for p, o in enumerate("aaabbc")]
    order = start_order(waiting, {})
    assert "".join(job.owner for job in order) == "abcaba"
    assert order[0] == fair_choice(waiting, {})
    assert "".join(job.owner for job in start_order(waiting, {"a": 5.0, "b": 9.0})) == "cababa"
    assert fair_choice([], {}) is None
    assert len(waiting) == 6


def test_three_jobs_and_the_second_fails(studio: Studio) -> None:
    first = submit(studio, name="first")
    second = submit(studio, name="second", owner="bob")
    (second.folder / "request.yaml").write_text("method: nonsense\n")
    third = submit(studio, name="third")
    done = [wait(studio, job, ended) for job in (first, second, third)]
    assert [job.status for job in done] == ["succeeded", "failed", "succeeded"]
    assert "nonsense" in done[1].error or "missing" in done[1].error
    assert done[0].summary["step"] == 1
    assert studio.adapters.get("ann", first.id).name == "first"


def test_a_job_runs_a_snapshot_of_its_photos(studio: Studio) -> None:
    job = submit(studio)
    for folder in studio.subjects.root.glob("ann/*"):
        for path in folder.iterdir():
            path.unlink()
    assert wait(studio, job, ended).status == "succeeded"


def test_paused_resumed_killed_and_resumed_again(studio: Studio) -> None:
    job = submit(studio, steps=100_000)
    running = wait(studio, job, has_steps)
    process = process_of(running.handle)
    assert process
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    with pytest.raises(UserError, match="still running"):
        studio.jobs.delete("ann", job.id)

    studio.jobs.pause("ann", job.id)
    paused = wait(studio, job, ended)
    assert paused.status == "interrupted"
    assert "a checkpoint is saved" in paused.error
    step = paused.summary["step"]

    studio.jobs.resume("ann", job.id)
    again = wait(studio, job, lambda j: has_steps(j) and read_progress(j.folder).step > step)
    process = process_of(again.handle)
    assert process
    process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    killed = wait(studio, job, ended)
    assert time.monotonic() - killed_at < 5
    assert killed.status == "interrupted"
    assert "Resume" in killed.error
    assert "--- resumed" in log_tail(job.folder, lines=500), "the earlier log is lost"

    studio.jobs.resume("ann", job.id)
    wait(studio, job, has_steps)
    studio.jobs.cancel("ann", job.id)
    assert wait(studio, job, ended).status == "cancelled"


def test_a_new_page_finds_what_an_earlier_one_started(
    studio: Studio, tiny: Path, tmp_path: Path
) -> None:
    job = submit(studio, steps=100_000)
    running = wait(studio, job, has_steps)
    with pytest.raises(UserError, match="Another studio is running"):
        open_studio(tiny, tmp_path)
    studio.close()
    later = open_studio(tiny, tmp_path)
    try:
        assert later.jobs.get("ann", job.id).status == "running"
        assert process_of(running.handle)
        later.jobs.cancel("ann", job.id)
        assert wait(later, job, ended).status == "cancelled"
    finally:
        later.close()


def test_a_waiting_job_is_moved_and_cancelled(studio: Studio) -> None:
    first = submit(studio, steps=100_000)
    wait(studio, first, lambda job: job.status == "running")
    second, third = submit(studio), submit(studio)
    studio.jobs.move("ann", third.id, up=True)
    waiting = [job.id for job in studio.jobs.store.in_status("queued")]
    assert waiting == [third.id, second.id]
    assert studio.jobs.cancel("ann", second.id).status == "cancelled"
    with pytest.raises(UserError, match="no running training"):
        studio.jobs.pause("ann", third.id)


def test_another_user_s_job_does_not_exist(studio: Studio) -> None:
    job = submit(studio)
    service = studio.jobs
    for act in (service.get, service.cancel, service.pause, service.resume, service.delete):
        with pytest.raises(NoSuchJobError):
            act("bob", job.id)
    for name in ("../x", "j", "j" + "g" * 12, ""):
        with pytest.raises(NoSuchJobError):
            service.get("ann", name)


@pytest.mark.slow
def test_a_duplicate_has_its_changes_and_its_own_photos(studio: Studio) -> None:
    job = submit(studio)
    wait(studio, job, ended)
    other = studio.duplicate("ann", job.id, {"max_train_steps": 2})
    assert other.request["max_train_steps"] == 2
    assert other.request["class_word"] == "dog"
    assert wait(studio, other, ended).status == "succeeded"
    assert len(list((other.folder / "photos").glob("*.png"))) == 2


def test_deleted_restored_and_gone_for_good(studio: Studio) -> None:
    job = submit(studio)
    wait(studio, job, ended)
    studio.jobs.delete("ann", job.id)
    assert studio.adapters.list("ann") == []
    studio.jobs.restore("ann", job.id)
    assert [entry.id for entry in studio.adapters.list("ann")] == [job.id]
    studio.jobs.delete("ann", job.id)
    assert studio.jobs.empty_trash("ann", older_than=60) == 0
    assert job.folder.is_dir()
    assert studio.jobs.empty_trash("ann") == 1
    assert not job.folder.exists()


@pytest.fixture
def training() -> Iterator[int]:
    """The id of a process that is called like a training."""
    words = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "training"]
    with subprocess.Popen(words) as process:
        yield process.pid
        process.kill()


def write_events(folder: Path, *events: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(event)}\n" for event in events)
    (folder / "events.jsonl").write_text(text + '{"event": "St')
    return folder


def test_what_a_training_does_before_its_first_step_is_told(tmp_path: Path) -> None:
    """From its own events; those of an earlier attempt say nothing about this one."""
    begun = 1000.0
    job = row(tmp_path, status="running", started=begun)
    names = ("Started", "Sample", "Scored", "Step")
    told, old = [stage_of(job)], []
    for time_of in (begun - 500, begun + 1):
        events = [
            {"event": name, "time": time_of + n, "step": 0, "start_step": 0, "paths": []}
            for n, name in enumerate(names)
        ]
        for count in range(1, 5):
            write_events(tmp_path, *old, *events[:count])
            told.append(stage_of(job))
        old = events
    assert told[:5] == ["Loading the base model"] * 5
    assert told[5:8] == [
        "Making samples before the first step", "Comparing samples", "Taking the first step",
    ]  # fmt: skip
    assert told[8] == ""
    no_prompts = replace(job, request={"validation_prompts": []})
    write_events(tmp_path, *old[:1])
    assert stage_of(no_prompts) == "Taking the first step"
    assert stage_of(replace(job, status="succeeded")) == ""


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ({"event": "Finished", "step": 5, "seconds": 1.0}, "succeeded"),
        ({"event": "Failed", "step": 2, "reason": "the disk is full"}, "failed"),
        ({"event": "Failed", "step": 2, "reason": "stopped by SIGTERM"}, "interrupted"),
        (None, "interrupted"),
    ],
)
def test_a_run_of_the_command_line_is_adopted(
    studio: Studio, ending: dict | None, status: str
) -> None:
    started = {"event": "Started", "time": time.time() - 9, "pid": 1, "steps": 5, "method": "hra"}
    events = [started, {**ending, "time": time.time()}] if ending else [started]
    folder = write_events(studio.jobs.runs.root / "demo", *events)
    os.utime(folder / "events.jsonl", (time.time() - 90,) * 2)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    (job,) = studio.jobs.store.list(Query(owner="local"))
    assert (job.name, job.status, job.folder) == ("demo", status, folder)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    assert studio.jobs.store.count(Query()) == 1, "it was adopted twice"


def test_a_live_run_of_the_command_line_is_followed(studio: Studio, training: int) -> None:
    started = {"event": "Started", "time": time.time(), "pid": training, "steps": 5}
    write_events(studio.jobs.runs.root / "demo", started)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    (job,) = studio.jobs.store.list(Query(owner="local"))
    assert job.status == "running"
    psutil.Process(training).kill()
    assert wait(studio, job, ended).status == "interrupted"


def test_a_folder_from_another_computer_cannot_name_any_process(studio: Studio) -> None:
    started = {"event": "Started", "time": time.time(), "pid": os.getpid(), "steps": 5}
    folder = write_events(studio.jobs.runs.root / "copied", started)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    assert studio.jobs.store.count(Query()) == 0, "a run that may be alive was judged"
    os.utime(folder / "events.jsonl", (time.time() - 90,) * 2)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    (job,) = studio.jobs.store.list(Query(owner="local"))
    assert job.status == "interrupted"


def test_a_job_that_was_gone_on_with_elsewhere_is_what_its_folder_says(studio: Studio) -> None:
    started = {"event": "Started", "time": time.time() - 99, "pid": 1, "steps": 5}
    stopped = {"event": "Failed", "time": time.time() - 98, "step": 2, "reason": "stopped by x"}
    folder = write_events(studio.jobs.runs.root / "demo", started, stopped)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    (job,) = studio.jobs.store.list(Query(owner="local"))
    assert job.status == "interrupted"
    again = {**started, "time": time.time(), "start_step": 2}
    finished = {"event": "Finished", "time": time.time(), "step": 5, "seconds": 1.0}
    write_events(folder, started, stopped, again, finished)
    studio.jobs._looked = 0.0
    studio.jobs.adopt()
    assert wait(studio, job, ended).status == "succeeded"


def test_a_reused_process_id_is_not_the_job(training: int) -> None:
    created = psutil.Process(training).create_time()
    assert process_of({"pid": training, "created": created})
    assert process_of({"pid": training, "created": created - 60}) is None
    assert process_of({}) is None


@pytest.mark.parametrize(
    "line", ['{"event": "Started", "time": 1}', "[1]", '{"event": "Step", "time": 1}', "{"]
)
def test_events_that_are_none_do_not_break_the_page(tmp_path: Path, line: str) -> None:
    (tmp_path / "events.jsonl").write_text(f"{line}\n")
    assert read_progress(tmp_path).step == 0
    status, error, _ = judge_end(row(tmp_path, status="running"), None)
    assert status == "interrupted"
    assert "Resume" in error


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "/etc", "a b", "A", ".x", "x" * 61, "a\n", "$(id)", "%s"]
)
def test_only_plain_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name"):
        RunFolders(tmp_path).claim(name)


def test_free_names_are_valid_and_free(tmp_path: Path) -> None:
    runs = RunFolders(tmp_path)
    assert runs.free_name("Toy Duck/../-hra") == "toy-duck-hra"
    (tmp_path / "toy-duck-hra").mkdir()
    assert runs.free_name("toy duck hra") == "toy-duck-hra-2"
    assert runs.free_name("../") == "run"
    with pytest.raises(UserError, match="exists already"):
        runs.claim("toy-duck-hra")


def test_a_running_training_samples_and_saves_when_asked(studio: Studio) -> None:
    job = submit(studio, steps=100_000, validation_prompts=["a dog"], validation_steps=100_000)
    wait(studio, job, has_steps)
    studio.jobs.sample("ann", job.id)
    studio.jobs.save("ann", job.id)
    with pytest.raises(UserError, match="no running batch"):
        studio.jobs.stop_after("ann", job.id)
    wait(studio, job, lambda one: history_of_job(one.folder).saved and not asked_of(one))
    history = history_of_job(job.folder)
    assert [sample["step"] > 0 for sample in history.samples] == [False, True]
    assert (job.folder / history.saved[-1]["path"]).is_dir()
    studio.jobs.cancel("ann", job.id)
    wait(studio, job, ended)
    with pytest.raises(UserError, match="cannot save now"):
        studio.jobs.save("ann", job.id)
    with pytest.raises(UserError, match="no running training, so it cannot sample"):
        studio.jobs.sample("ann", job.id)
    with pytest.raises(NoSuchJobError):
        studio.jobs.sample("bob", job.id)


def asked_of(job: Job) -> list[str]:
    return job_out(job).asked


def test_a_training_without_sample_prompts_says_so(studio: Studio) -> None:
    job = submit(studio)
    assert not job_out(job).can.sample
    with pytest.raises(UserError, match="has no sample prompts"):
        studio.jobs.sample("ann", job.id)


def test_a_batch_ends_after_its_image_and_says_how_it_goes_on(studio: Studio) -> None:
    config = {"prompts": ["a dog"], "num_images": 30, "num_inference_steps": 2}
    job = studio.submit("ann", "batch", config, subject=None, name="")
    wait(studio, job, lambda one: one.status == "running")
    assert job_out(studio.jobs.stop_after("ann", job.id)).can.stop_after is False
    stopped = wait(studio, job, ended)
    assert stopped.status == "interrupted"
    made = len(read_batch(job.folder))
    assert made < 30
    assert stopped.error == f"Stopped after {made} of 30 images. Resume: the others are made."
    StopRequest(job.folder / "out").make()
    studio.jobs.resume("ann", job.id)
    assert not StopRequest(job.folder / "out").is_made, "the resumed batch would end at once"
    studio.jobs.cancel("ann", job.id)
    wait(studio, job, ended)

"""What the queue lets happen to a job in which state, and what its folder says about it.

Real databases and event files, and neither a process nor a model: every state takes milliseconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orthodiff.studio.services.jobs import progress, scheduler
from orthodiff.studio.services.jobs.executor import Ending
from orthodiff.studio.services.jobs.job import RESUMABLE, TERMINAL, Job, Status, new_id
from orthodiff.studio.services.jobs.progress import (
    can_continue,
    events_of_job,
    judge_end,
    log_tail,
    read_progress,
)
from orthodiff.studio.services.jobs.scheduler import GRACE, Scheduler, fair_choice
from orthodiff.studio.services.jobs.store import JobStore, Query
from orthodiff.studio.services.jobs.tables import open_database, sqlite_url

STATUSES: tuple[Status, ...] = ("queued", "running", *TERMINAL)
BEGAN = 1000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    engine = open_database(sqlite_url(tmp_path / "studio.db"))
    yield JobStore(engine)
    engine.dispose()


def row(folder: Path = Path("nowhere"), **values: Any) -> Job:
    plain = Job(new_id(), "dreambooth", "ann", "run", "queued", folder, BEGAN)
    return replace(plain, **values)


def events(folder: Path, *given: Mapping[str, Any]) -> None:
    """Write events as a training does, each at `time` 1000 or its own."""
    lines = [json.dumps({"time": BEGAN, **event}) + "\n" for event in given]
    (folder / "events.jsonl").write_text("".join(lines))


def checkpoint(folder: Path) -> None:
    (folder / "checkpoint-3").mkdir()


STARTED = {"event": "Started", "start_step": 2, "steps": 9, "parameters": 77, "pid": 1}
STEP = {
    "event": "Step", "step": 4, "loss": 0.5, "learning_rate": 1e-3, "seconds_per_step": 2.0,
    "eta_seconds": 50.0,
}  # fmt: skip


class TestStore:
    """Each change names the states in which it may happen."""

    CHANGES: Mapping[str, tuple[tuple[Status, ...], Status | None]] = {
        "begin": (("queued",), "running"),
        "attach": (("running",), None),
        "end": (("running",), "failed"),
        "wish": (("running",), None),
        "cancel_queued": (("queued",), "cancelled"),
        "requeue": (RESUMABLE, "queued"),
        "rejoin": (RESUMABLE, "running"),
        "move": (("queued",), None),
        "trash": (TERMINAL, None),
        "forget": ((), None),
        "restore": ((), None),
    }
    """By method: from where it is possible, and the status afterwards if that is another."""

    @staticmethod
    def change(store: JobStore, name: str, job: Job) -> bool:
        calls = {
            "begin": lambda: store.begin(job, {"pid": 2}),
            "attach": lambda: store.attach(job, {"pid": 2}),
            "end": lambda: store.end(job, "failed", error="why"),
            "wish": lambda: store.wish(job, "pause"),
            "requeue": lambda: store.requeue(job),
            "rejoin": lambda: store.rejoin(job, {"pid": 2}),
            "move": lambda: store.move(job.id, 7.5),
        }
        return calls[name]() if name in calls else bool(getattr(store, name)(job.id))

    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("name", CHANGES)
    def test_a_change_happens_in_its_states_only(
        self, store: JobStore, name: str, status: Status
    ) -> None:
        possible, after = self.CHANGES[name]
        job = store.add(row(status=status, attempt=3, handle={"pid": 1}, wish="cancel"))
        assert self.change(store, name, job) is (status in possible)
        now = store.get(job.id)
        if status not in possible:
            assert now == job
        else:
            assert now
            assert now != job
            assert now.status == (after or status)

    @pytest.mark.parametrize("name", CHANGES)
    def test_another_attempt_and_another_job_are_left_alone(
        self, store: JobStore, name: str
    ) -> None:
        possible, _ = self.CHANGES[name]
        for status in possible or ("failed",):
            job = store.add(row(status=status, attempt=3))
            other = store.add(row(status=status, attempt=3))
            late = replace(job, attempt=2)
            changed = self.change(store, name, late)
            assert store.get(other.id) == other
            if name in ("attach", "end", "wish"):
                assert not changed
                assert store.get(job.id) == job

    def test_what_beginning_and_ending_note(self, store: JobStore) -> None:
        job = store.add(row(error="of before", ended=5.0))
        before = time.time()
        assert store.begin(job, {"slot": 1})
        running = store.get(job.id)
        assert running
        assert (running.attempt, running.error, running.ended) == (1, "", None)
        assert before <= (running.started or 0) <= time.time()
        assert running.handle == {"slot": 1}
        assert store.wish(running, "pause")
        assert store.end(running, "interrupted", error="why", summary={"step": 4})
        ended = store.get(job.id)
        assert ended
        assert (ended.status, ended.error, ended.wish) == ("interrupted", "why", "")
        assert ended.summary == {"step": 4}
        assert before <= (ended.ended or 0) <= time.time()
        assert store.requeue(ended)
        again = store.get(job.id)
        assert again
        assert (again.error, again.ended, again.summary) == ("", None, {"step": 4})
        assert again.attempt == 1

    def test_one_that_ended_can_be_run_by_somebody_else(self, store: JobStore) -> None:
        job = store.add(row(status="failed", error="why", ended=5.0, attempt=2))
        assert store.rejoin(job, {"pid": 9})
        now = store.get(job.id)
        assert now
        assert (now.attempt, now.error, now.ended, now.handle) == (3, "", None, {"pid": 9})

    def test_new_and_resumed_jobs_go_to_the_end_of_the_queue(self, store: JobStore) -> None:
        first, second = store.add(row(name="first")), store.add(row(name="second", status="failed"))
        third = store.add(row(name="third"))
        assert first.position < second.position < third.position
        store.requeue(second)
        assert [job.name for job in store.in_status("queued")] == ["first", "third", "second"]
        store.move(first.id, third.position + 0.5)
        assert [job.name for job in store.in_status("queued")] == ["third", "first", "second"]

    def test_a_list_has_the_queue_in_order_and_then_the_newest(self, store: JobStore) -> None:
        for name, status, created in (
            ("old", "succeeded", 1.0),
            ("later", "queued", 5.0),
            ("new", "failed", 9.0),
            ("next", "queued", 4.0),
            ("now", "running", 3.0),
        ):
            store.add(row(name=name, status=status, created=created))
        names = [job.name for job in store.list(Query())]
        assert names == ["later", "next", "new", "now", "old"]
        assert [job.name for job in store.list(Query(), limit=2, offset=1)] == names[1:3]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            (Query(), "abcd"),
            (Query(owner="ann"), "ac"),
            (Query(owner=""), ""),
            (Query(statuses=["failed", "queued"]), "abc"),
            (Query(kinds=["batch"]), "d"),
            (Query(words="HRA"), "b"),
            (Query(words="base dog"), "c"),
            (Query(words="dog hra"), ""),
            (Query(trashed=True), "e"),
            (Query(owner="bob", trashed=True), ""),
        ],
    )
    def test_a_query_finds_what_it_says(self, store: JobStore, query: Query, names: str) -> None:
        store.add(row(name="a"))
        store.add(row(name="b", owner="bob", status="failed", request={"method": "hra"}))
        store.add(row(name="c", request={"base": "my/base", "prompt": "a Dog"}))
        store.add(row(name="d", owner="bob", status="running", kind="batch"))
        store.trash(store.add(row(name="e", status="failed")).id)
        assert "".join(sorted(job.name for job in store.list(query))) == names
        assert store.count(query) == len(names)

    def test_the_trash_is_left_out_of_what_waits_and_keeps_its_folder(
        self, store: JobStore
    ) -> None:
        job = store.add(row(Path("/runs/one"), status="failed"))
        store.trash(job.id)
        assert store.in_status("failed") == []
        assert not store.requeue(job)
        assert not store.rejoin(job, {})
        assert not store.trash(job.id)
        assert store.folders() == {"/runs/one"}
        assert store.restore(job.id)
        assert not store.restore(job.id)
        assert store.trash(job.id)
        assert store.forget(job.id)
        assert store.get(job.id) is None
        assert store.folders() == set()

    def test_a_renamed_job_is_found_by_its_new_name_only(self, store: JobStore) -> None:
        job = store.add(row(name="Robot", request={"prompt": "a teapot"}))
        assert store.rename(job, "Kettle")
        assert [j.name for j in store.list(Query(words="kettle teapot"))] == ["Kettle"]
        assert store.list(Query(words="robot")) == []

    def test_the_newest_start_of_each_owner(self, store: JobStore) -> None:
        for owner, started in (("ann", 3.0), ("ann", 8.0), ("bob", 5.0), ("eve", None)):
            store.add(row(owner=owner, started=started))
        assert store.last_starts() == {"ann": 8.0, "bob": 5.0}


class TestProgress:
    def test_a_running_job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        events(tmp_path, STARTED, {**STEP, "time": 1010.0})
        for now, eta in ((1010.0, 50.0), (1040.0, 20.0), (1099.0, 0.0)):
            monkeypatch.setattr(progress.time, "time", lambda now=now: now)
            told = read_progress(tmp_path)
            assert (told.step, told.total, told.loss, told.eta) == (4, 9, 0.5, eta)
        assert (told.seconds_per_step, told.parameters) == (2.0, 77)
        assert (told.seconds, told.best_step) == (None, None)

    def test_before_the_first_step_it_is_where_it_went_on_from(self, tmp_path: Path) -> None:
        events(tmp_path, STARTED)
        told = read_progress(tmp_path)
        assert (told.step, told.total, told.loss, told.eta) == (2, 9, None, None)
        assert read_progress(tmp_path / "none").step == 0

    @pytest.mark.parametrize(("since", "step"), [(None, 4), (1000.5, 4), (1002.0, 2)])
    def test_the_steps_of_an_earlier_process_are_not_those_of_the_present_one(
        self, tmp_path: Path, since: float | None, step: int
    ) -> None:
        events(tmp_path, STARTED, STEP)
        assert read_progress(tmp_path, since=since).step == step

    def test_the_end_tells_the_best_step_and_its_scores(self, tmp_path: Path) -> None:
        scores = [
            {"event": "Scored", "step": step, "loss": 1.0, "subject_similarity": step / 10,
             "prompt_similarity": step / 100}
            for step in (3, 4)
        ]  # fmt: skip
        events(tmp_path, STARTED, STEP, *scores)
        assert read_progress(tmp_path).subject_similarity == 0.4
        (tmp_path / "ended").mkdir()
        end = {**FINISHED, "best_step": 3, "best_reason": "least"}
        events(tmp_path / "ended", STARTED, STEP, *scores, end)
        told = read_progress(tmp_path / "ended")
        assert (told.best_step, told.best_reason, told.seconds) == (3, "least", 3.0)
        assert (told.subject_similarity, told.prompt_similarity) == (0.3, 0.03)
        assert told.eta is None

    def test_events_are_read_anew_when_they_have_grown(self, tmp_path: Path) -> None:
        events(tmp_path, STARTED)
        assert read_progress(tmp_path).step == 2
        with (tmp_path / "events.jsonl").open("a") as file:
            file.write(json.dumps({"time": BEGAN, **STEP}) + "\n")
        assert read_progress(tmp_path).step == 4
        assert [event["event"] for event in events_of_job(tmp_path)] == ["Started", "Step"]
        assert events_of_job(tmp_path / "none") == []

    def test_a_log_is_shown_from_its_end(self, tmp_path: Path) -> None:
        lines = [f"line {number}" for number in range(30)]
        (tmp_path / "log.txt").write_bytes("\n".join(lines).encode() + b"\rover\n")
        assert log_tail(tmp_path).splitlines() == [*lines[-13:], "over"]
        assert log_tail(tmp_path, lines=2) == "line 29\nover"
        assert log_tail(tmp_path / "none") == ""
        (tmp_path / "log.txt").write_bytes(b"x" * 40_000 + b"\nlast")
        assert len(log_tail(tmp_path)) == 32_000

    @pytest.mark.parametrize(
        ("kind", "has_one", "expected"),
        [
            ("dreambooth", True, True),
            ("control", True, True),
            ("batch", True, False),
            ("dreambooth", False, False),
        ],
    )
    def test_only_trainings_go_on_from_a_checkpoint(
        self, tmp_path: Path, kind: Any, has_one: bool, expected: bool
    ) -> None:
        if has_one:
            checkpoint(tmp_path)
        assert can_continue(row(tmp_path, kind=kind)) is expected


FAILED = {"event": "Failed", "step": 4, "reason": "the loss is not finite"}
STOPPED = {**FAILED, "reason": "stopped by SIGTERM after step 4"}
FINISHED = {"event": "Finished", "step": 9, "seconds": 3.0}


class TestEnd:
    @pytest.mark.parametrize(
        ("code", "wish", "ending", "status", "words"),
        [
            (0, "", None, "succeeded", ""),
            (0, "cancel", FINISHED, "succeeded", ""),
            (None, "", FINISHED, "succeeded", ""),
            (1, "", {**FINISHED, "time": BEGAN - 5}, "failed", "exit code 1"),
            (143, "cancel", STOPPED, "cancelled", ""),
            (None, "cancel", None, "cancelled", ""),
            (143, "pause", STOPPED, "interrupted", "Paused at step 4; a checkpoint is saved."),
            (143, "", STOPPED, "interrupted", "was asked to stop from outside"),
            (130, "", None, "interrupted", "was asked to stop from outside"),
            (1, "", STOPPED, "interrupted", "was asked to stop from outside"),
            (None, "", None, "interrupted", "is gone without having finished"),
            (None, "", FAILED, "failed", "the loss is not finite"),
            (1, "", FAILED, "failed", "the loss is not finite"),
            (2, "", None, "failed", "exit code 2"),
        ],
    )
    def test_the_status_and_the_sentence(
        self, tmp_path: Path, code: int | None, wish: Any, ending: Any, status: str, words: str
    ) -> None:
        checkpoint(tmp_path)
        events(tmp_path, STARTED, STEP, *([ending] if ending else []))
        job = row(tmp_path, status="running", started=BEGAN, wish=wish)
        told, error, summary = judge_end(job, code)
        assert (told, bool(error)) == (status, bool(words))
        assert words in error
        assert summary["total"] == 9
        assert "eta" not in summary
        assert all(value not in (None, "", 0) for value in summary.values())

    @pytest.mark.parametrize(
        ("wish", "with_one", "without"),
        [("pause", "a checkpoint is saved", "begins anew"), ("", "goes on from", "begins anew")],
    )
    def test_what_resuming_will_do(
        self, tmp_path: Path, wish: Any, with_one: str, without: str
    ) -> None:
        events(tmp_path, STARTED, STEP)
        job = row(tmp_path, status="running", started=BEGAN, wish=wish)
        assert without in judge_end(job, 143)[1]
        checkpoint(tmp_path)
        assert with_one in judge_end(job, 143)[1]

    @pytest.mark.parametrize("mark", ["error", "failed"])
    def test_the_newest_sentence_of_the_log_says_why(self, tmp_path: Path, mark: str) -> None:
        (tmp_path / "log.txt").write_text(f"error: old\n{mark}: no room: here\nbye\n")
        assert judge_end(row(tmp_path), 1)[:2] == ("failed", "no room: here")


class Machine:
    """An executor whose processes end when a test says so."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.started: list[tuple[str, int]] = []
        self.endings: dict[str, Ending] = {}
        self.stopped: list[tuple[str, bool]] = []
        self.is_closed = False

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        if job.name == "bad":
            raise OSError("no such program")
        self.started.append((job.name, slot))
        return {"slot": slot}

    def ending(self, job: Job) -> Ending | None:
        return self.endings.get(job.name)

    def stop(self, job: Job, *, hard: bool = False) -> None:
        self.stopped.append((job.name, hard))

    def close(self) -> None:
        self.is_closed = True


class TestScheduler:
    @pytest.fixture
    def machines(self) -> dict[str, Machine]:
        return {"training": Machine(2), "images": Machine(1)}

    @pytest.fixture
    def ended(self) -> list[str]:
        return []

    @pytest.fixture
    def queue(self, store: JobStore, machines: Any, ended: list[str]) -> Scheduler:
        return Scheduler(store, machines, on_end=lambda job: ended.append(job.name))

    def test_as_many_run_as_there_is_room_in_their_lane(
        self, store: JobStore, queue: Scheduler, machines: dict[str, Machine]
    ) -> None:
        assert not queue.look()
        for name in "abc":
            store.add(row(name=name))
        for name in "xy":
            store.add(row(name=name, kind="generate"))
        assert queue.look()
        assert machines["training"].started == [("a", 0), ("b", 1)]
        assert machines["images"].started == [("x", 0)]
        assert [job.name for job in store.in_status("queued")] == ["c", "y"]
        queue.look()
        assert len(machines["training"].started) == 2

    def test_the_room_of_one_that_ended_is_given_to_the_next(
        self, store: JobStore, queue: Scheduler, machines: dict[str, Machine], ended: list[str]
    ) -> None:
        jobs = {name: store.add(row(name=name)) for name in "abc"}
        queue.look()
        machines["training"].endings["a"] = Ending(0)
        assert queue.look()
        assert machines["training"].started[2:] == [("c", 0)]
        assert ended == ["a"]
        first = store.get(jobs["a"].id)
        assert first
        assert (first.status, first.summary["peak_memory"]) == ("succeeded", 0)
        for name in "bc":
            machines["training"].endings[name] = Ending(1)
        assert not queue.look()
        assert ended == ["a", "b", "c"]
        assert {job.name for job in store.in_status("failed")} == {"b", "c"}

    def test_one_that_cannot_be_started_does_not_block_the_others(
        self, store: JobStore, queue: Scheduler, machines: dict[str, Machine]
    ) -> None:
        bad, good = store.add(row(name="bad")), store.add(row(name="good"))
        queue.look()
        assert machines["training"].started == [("good", 1)]
        failed = store.get(bad.id)
        assert failed
        assert failed.status == "failed"
        assert "no such program" in failed.error
        assert store.in_status("running")[0].id == good.id

    def test_one_that_does_not_end_when_asked_is_killed_after_a_while(
        self,
        store: JobStore,
        queue: Scheduler,
        machines: dict[str, Machine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        now = [100.0]
        monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
        for name in ("asked", "other"):
            store.add(row(name=name))
        queue.look()
        store.wish(next(j for j in store.in_status("running") if j.name == "asked"), "cancel")
        for passed in (0.0, GRACE):
            now[0] = 100.0 + passed
            queue.look()
            assert machines["training"].stopped == []
        now[0] += 0.1
        queue.look()
        assert machines["training"].stopped == [("asked", True)]

    def test_closing_lets_go_of_the_machines_and_the_thread_ends(
        self, store: JobStore, queue: Scheduler, machines: dict[str, Machine]
    ) -> None:
        queue.open()
        queue.close()
        assert not queue._thread.is_alive()
        assert all(machine.is_closed for machine in machines.values())

    def test_who_has_waited_longest_for_a_start_is_next(self) -> None:
        names = [("1", "ann"), ("2", "bob"), ("3", "eve"), ("4", "ann")]
        waiting = [row(name=n, owner=o, position=float(n)) for n, o in names]
        for starts, name in (
            ({}, "1"),
            ({"ann": 5.0}, "2"),
            ({"ann": 5.0, "bob": 6.0, "eve": 4.0}, "3"),
            ({"ann": 5.0, "bob": 6.0, "eve": 7.0}, "1"),
        ):
            job = fair_choice(waiting, starts)
            assert job
            assert job.name == name


def test_ids_cannot_be_guessed_and_lanes_are_apart() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert {row(kind=kind).lane for kind in ("dreambooth", "control", "batch", "evaluate")} == {
        "training"
    }
    assert row(kind="generate").lane == "images"
    assert [row(status=status).is_active for status in STATUSES] == [True, True] + 4 * [False]

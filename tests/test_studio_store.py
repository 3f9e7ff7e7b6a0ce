"""The durable store, on SQLite and on a real PostgreSQL server: guarded, ordered, searched."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from orthodiff.errors import UserError
from orthodiff.studio.services.jobs.executor import Ending
from orthodiff.studio.services.jobs.job import TERMINAL, Job, new_id
from orthodiff.studio.services.jobs.scheduler import Scheduler
from orthodiff.studio.services.jobs.store import JobStore, Query
from orthodiff.studio.services.jobs.tables import METADATA, open_database, sqlite_url

Connect = Callable[[], Engine]


@pytest.fixture(params=["sqlite", "postgresql"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Opens the same empty database each time, as several servers would."""
    on_sqlite = request.param == "sqlite"
    url = sqlite_url(tmp_path / "jobs.db") if on_sqlite else request.getfixturevalue("postgres")
    engines: list[Engine] = []

    def open_one() -> Engine:
        engines.append(open_database(url))
        return engines[-1]

    yield open_one
    METADATA.drop_all(engines[0])
    for engine in engines:
        engine.dispose()


@pytest.fixture
def store(connect: Connect) -> JobStore:
    return JobStore(connect())


def row(folder: Path, **values: object) -> Job:
    plain = Job(new_id(), "dreambooth", "ann", "run", "queued", folder, time.time())
    return replace(plain, **values)


@pytest.mark.parametrize("status", TERMINAL)
def test_a_terminal_status_is_never_overwritten(
    store: JobStore, tmp_path: Path, status: str
) -> None:
    job = store.add(row(tmp_path))
    assert store.begin(job, {"pid": 1})
    assert not store.begin(job, {"pid": 2}), "a job that runs was started again"
    running = store.get(job.id)
    assert running
    assert store.end(running, status)
    for other in TERMINAL:
        assert not store.end(running, other)
    assert not store.wish(running, "cancel")
    found = store.get(job.id)
    assert found
    assert (found.status, found.handle) == (status, {"pid": 1})


def test_a_late_word_about_an_earlier_attempt_changes_nothing(
    store: JobStore, tmp_path: Path
) -> None:
    job = store.add(row(tmp_path))
    store.begin(job, {})
    first = store.get(job.id)
    assert first
    store.end(first, "interrupted")
    assert store.requeue(first)
    again = store.get(job.id)
    assert again
    store.begin(again, {})
    assert not store.end(first, "failed"), "the first attempt ended the second"
    assert store.get(job.id).status == "running"


def test_what_waits_or_runs_cannot_be_deleted(store: JobStore, tmp_path: Path) -> None:
    job = store.add(row(tmp_path))
    assert not store.trash(job.id)
    assert store.cancel_queued(job.id)
    assert store.trash(job.id)
    assert store.list(Query(owner="ann")) == []
    assert store.restore(job.id)
    assert [found.id for found in store.list(Query(owner="ann"))] == [job.id]
    assert not store.forget(job.id), "a job outside the trash was forgotten"


def test_a_search_takes_signs_as_they_are(store: JobStore, tmp_path: Path) -> None:
    for name in ("robot_1", "robots1", "50%"):
        store.add(row(tmp_path, name=name))
    assert [j.name for j in store.list(Query(words="T_1"))] == ["robot_1"]
    assert [j.name for j in store.list(Query(words="%"))] == ["50%"]


def test_what_a_row_holds_comes_back(store: JobStore, tmp_path: Path) -> None:
    request = {"prompt": "a \u00e4 \U0001f600", "rates": [1e-4, None], "deep": {"a": True}}
    job = store.add(row(tmp_path, name="Hund", request=request, summary={"step": 3}))
    stored = store.get(job.id)
    assert stored
    assert (stored.request, stored.summary, stored.folder) == (request, {"step": 3}, tmp_path)
    assert stored.created == pytest.approx(job.created, abs=1e-3)


def test_text_that_no_database_stores_is_stored_without_it(store: JobStore, tmp_path: Path) -> None:
    job = store.add(row(tmp_path, name="a\x00b", request={"prompt": "x\x00y"}))
    store.begin(job, {})
    running = store.get(job.id)
    assert running
    assert running.name == "ab"
    assert store.end(running, "failed", error="it said \x00 and died")
    assert [one.error for one in store.list(Query(words="x\x00y"))] == ["it said  and died"]


def test_waiting_jobs_stand_in_their_order_before_the_newest(
    store: JobStore, tmp_path: Path
) -> None:
    for number in range(6):
        store.add(row(tmp_path, name=f"n{number}", created=float(number)))
    jobs = store.list(Query())
    for job in jobs[:3]:
        store.cancel_queued(job.id)
    store.move(jobs[5].id, 0.5)
    names = [job.name for job in store.list(Query())]
    assert names == ["n5", "n3", "n4", "n2", "n1", "n0"]
    assert [job.name for job in store.list(Query(), limit=2, offset=1)] == ["n3", "n4"]
    assert store.count(Query(statuses=("queued",))) == 3


class Instant:
    """An executor whose jobs end as they start."""

    slots = 3

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        self.started.append(job.id)
        return {"slot": slot}

    def ending(self, job: Job) -> Ending | None:
        return Ending(0)

    def stop(self, job: Job, *, hard: bool = False) -> None: ...

    def expect(self, slot: int) -> None: ...

    def close(self) -> None: ...


def test_two_schedulers_start_and_end_each_job_once(connect: Connect, tmp_path: Path) -> None:
    store = JobStore(connect())
    jobs = [store.add(row(tmp_path, owner=f"user{n % 3}")).id for n in range(30)]
    executors, ended = [Instant(), Instant()], []
    schedulers = [
        Scheduler(JobStore(connect()), {"training": one}, on_end=lambda job: ended.append(job.id))
        for one in executors
    ]
    begin = threading.Barrier(2)

    def work(scheduler: Scheduler) -> None:
        begin.wait()
        while scheduler.look():
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    started = [job_id for one in executors for job_id in one.started]
    assert sorted(started) == sorted(jobs), "a job was started twice, or never"
    assert sorted(ended) == sorted(jobs), "an end was told twice, or never"
    assert store.count(Query(statuses=("succeeded",))) == 30
    assert {job.attempt for job in store.list(Query())} == {1}


def test_a_database_that_cannot_be_opened_is_told_without_its_password() -> None:
    with pytest.raises(UserError, match="cannot be used"):
        open_database("nonsense://x")
    with pytest.raises(UserError) as told:
        open_database("sqlite:////nowhere/at/all.db")
    assert "cannot be opened" in str(told.value)


def test_a_server_that_is_not_there_is_told_without_its_password(postgres: str) -> None:
    with pytest.raises(UserError) as refused:
        open_database("postgresql+psycopg://ann:secret@127.0.0.1:1/none")
    assert "cannot be opened" in str(refused.value)
    assert "secret" not in str(refused.value)

"""The durable store of jobs. Every change of status is guarded: it names the status it expects."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, func, select

from .job import RESUMABLE, TERMINAL, Job, Status, Wish
from .tables import JOBS

COLUMNS = [column for column in JOBS.columns if column.name != "words"]


@dataclass(frozen=True)
class Query:
    """Which jobs to list; what is left out does not matter. `owner` None means everyone's."""

    owner: str | None = None
    statuses: Sequence[Status] = ()
    kinds: Sequence[str] = ()
    words: str = ""
    trashed: bool = False


class JobStore:
    """Jobs in a database. A guarded change returns whether it took place."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._changes = itertools.count(1)
        self._version = 0

    def version(self) -> int:
        """A number that grows with every change, so that what was read before can be kept."""
        return self._version

    def touch(self) -> None:
        """Say that something was changed that is told of a job and does not lie in its row."""
        self._version = next(self._changes)

    def add(self, job: Job) -> Job:
        """Insert a job, at the end of the queue."""
        with self.engine.begin() as connection:
            last = connection.execute(select(func.max(JOBS.c.position))).scalar() or 0.0
            values = {**_values(job), "position": last + 1.0}
            connection.execute(JOBS.insert().values(**values, words=_words(job)))
        self.touch()
        return self.get(job.id) or job

    def get(self, job_id: str) -> Job | None:
        """The job with this id, also one in the trash."""
        rows = self._select(JOBS.c.id == job_id)
        return rows[0] if rows else None

    def list(self, query: Query, *, limit: int = 1000, offset: int = 0) -> list[Job]:
        """Waiting jobs in their order, then all others, the newest first."""
        waits = (JOBS.c.status != "queued").asc()
        order = [waits, _queue_order(), JOBS.c.created.desc()]
        statement = select(*COLUMNS).where(_where(query)).order_by(*order)
        with self.engine.connect() as connection:
            rows = connection.execute(statement.limit(limit).offset(offset))
            return [_job(row) for row in rows.mappings()]

    def count(self, query: Query) -> int:
        """How many jobs a query has."""
        with self.engine.connect() as connection:
            statement = select(func.count()).select_from(JOBS).where(_where(query))
            return int(connection.execute(statement).scalar() or 0)

    def in_status(self, *statuses: Status) -> list[Job]:
        """All jobs in one of these, in the order of the queue."""
        return self._select(JOBS.c.status.in_(statuses), JOBS.c.trashed.is_(None))

    def folders(self) -> set[str]:
        """The folders that belong to a job, those of the trash included."""
        with self.engine.connect() as connection:
            return set(connection.execute(select(JOBS.c.folder)).scalars())

    def last_starts(self) -> dict[str, float]:
        """When each owner's newest job was started."""
        statement = select(JOBS.c.owner, func.max(JOBS.c.started)).group_by(JOBS.c.owner)
        with self.engine.connect() as connection:
            rows = connection.execute(statement)
            return {owner: started for owner, started in rows if started is not None}

    def begin(self, job: Job, handle: dict[str, Any]) -> bool:
        """queued -> running, with the way to find its process again."""
        values = {"status": "running", "handle": handle, "started": time.time(), "ended": None}
        return self._change(
            job.id, {**values, "error": "", "attempt": job.attempt + 1}, JOBS.c.status == "queued"
        )

    def attach(self, job: Job, handle: dict[str, Any]) -> bool:
        """Note the process of a job that has just begun."""
        return self._change(job.id, {"handle": handle}, *_running(job))

    def end(self, job: Job, status: Status, *, error: str = "", summary: Any = None) -> bool:
        """running -> a terminal status, for the process of this attempt alone."""
        values = {"status": status, "error": error, "ended": time.time(), "wish": ""}
        if summary is not None:
            values["summary"] = summary
        return self._change(job.id, values, *_running(job))

    def wish(self, job: Job, wish: Wish) -> bool:
        """Note what a running job has been asked to do, so that its end is understood."""
        return self._change(job.id, {"wish": wish}, *_running(job))

    def cancel_queued(self, job_id: str) -> bool:
        """queued -> cancelled."""
        values = {"status": "cancelled", "ended": time.time()}
        return self._change(job_id, values, JOBS.c.status == "queued")

    def requeue(self, job: Job) -> bool:
        """A job that ended early waits again; it was asked for, or this could not happen."""
        with self.engine.connect() as connection:
            last = connection.execute(select(func.max(JOBS.c.position))).scalar() or 0.0
        values = {"status": "queued", "position": last + 1.0, "ended": None, "wish": ""}
        guards = (JOBS.c.status.in_(RESUMABLE), JOBS.c.trashed.is_(None))
        return self._change(job.id, {**values, "error": ""}, *guards)

    def rejoin(self, job: Job, handle: dict[str, Any]) -> bool:
        """A job that ended early runs again, started by somebody elsewhere."""
        values = {"status": "running", "handle": handle, "started": time.time(), "ended": None}
        guards = (JOBS.c.status.in_(RESUMABLE), JOBS.c.trashed.is_(None))
        return self._change(job.id, {**values, "attempt": job.attempt + 1, "error": ""}, *guards)

    def move(self, job_id: str, position: float) -> bool:
        """Another place in the queue."""
        return self._change(job_id, {"position": position}, JOBS.c.status == "queued")

    def rename(self, job: Job, name: str) -> bool:
        """Another name to show."""
        return self._change(job.id, {"name": name, "words": _words(replace(job, name=name))})

    def trash(self, job_id: str) -> bool:
        """Into the trash; what waits or runs cannot go there."""
        guards = (JOBS.c.status.in_(TERMINAL), JOBS.c.trashed.is_(None))
        return self._change(job_id, {"trashed": time.time()}, *guards)

    def restore(self, job_id: str) -> bool:
        """Out of the trash again."""
        return self._change(job_id, {"trashed": None}, JOBS.c.trashed.is_not(None))

    def forget(self, job_id: str) -> bool:
        """Delete the row of a job that lies in the trash."""
        with self.engine.begin() as connection:
            gone = JOBS.delete().where(JOBS.c.id == job_id, JOBS.c.trashed.is_not(None))
            is_gone = bool(connection.execute(gone).rowcount)
        self.touch()
        return is_gone

    def _change(self, job_id: str, values: dict[str, Any], *guards: ColumnElement[bool]) -> bool:
        with self.engine.begin() as connection:
            values = {name: _storable(value) for name, value in values.items()}
            changed = JOBS.update().where(JOBS.c.id == job_id, *guards).values(**values)
            is_changed = bool(connection.execute(changed).rowcount)
        self.touch()
        return is_changed

    def _select(self, *conditions: ColumnElement[bool]) -> list[Job]:
        statement = select(*COLUMNS).where(*conditions).order_by(JOBS.c.position)
        with self.engine.connect() as connection:
            return [_job(row) for row in connection.execute(statement).mappings()]


def _running(job: Job) -> tuple[ColumnElement[bool], ...]:
    return (JOBS.c.status == "running", JOBS.c.attempt == job.attempt)


def _queue_order() -> ColumnElement[Any]:
    """The position of what waits; all others are equal in this."""
    return case((JOBS.c.status == "queued", JOBS.c.position), else_=0.0)


def _where(query: Query) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [
        JOBS.c.trashed.is_not(None) if query.trashed else JOBS.c.trashed.is_(None)
    ]
    if query.owner is not None:
        conditions.append(JOBS.c.owner == query.owner)
    if query.statuses:
        conditions.append(JOBS.c.status.in_(query.statuses))
    if query.kinds:
        conditions.append(JOBS.c.kind.in_(query.kinds))
    for word in _storable(query.words).lower().split():
        conditions.append(JOBS.c.words.contains(word, autoescape=True))
    return and_(*conditions)


def _values(job: Job) -> dict[str, Any]:
    values = {column.name: getattr(job, column.name) for column in COLUMNS}
    for name in ("request", "summary", "handle"):
        values[name] = dict(values[name])
    values = {name: _storable(value) for name, value in values.items()}
    return {**values, "folder": str(job.folder)}


def _storable(value: Any) -> Any:
    """Text without the one letter that PostgreSQL stores in no text; all else as it is."""
    return value.replace("\x00", "") if isinstance(value, str) else value


def _words(job: Job) -> str:
    parts = [job.name, job.kind, *(str(job.request.get(k, "")) for k in ("method", "base"))]
    return str(_storable(" ".join([*parts, str(job.request.get("prompt") or "")]))).lower()


def _job(row: Any) -> Job:
    return Job(**{**row, "folder": Path(row["folder"])})

"""What people do with jobs: ask for, stop, resume, order and delete them. Owners see their own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from orthodiff.errors import UserError

from ..kinds.base import Prepared
from .adopt import adopt
from .controls import JobControls
from .executor import Executor, Ticket
from .folders import RunFolders, check_name, discard
from .job import RESUMABLE, Job, Kind, new_id
from .resume import prepare_resume
from .scheduler import Scheduler
from .store import JobStore, Query

MOST_WAITING = {"images": 8, "training": 100}
"""So many jobs of one lane may one user have waiting."""
TRASH_DAYS = 14.0
ADOPTING = 5.0
"""Seconds between two looks for runs that were started elsewhere."""


class JobService(JobControls):
    """The queue as its users see it."""

    def __init__(
        self,
        store: JobStore,
        executors: Mapping[str, Executor],
        *,
        runs: RunFolders,
        results: Path,
        adopter: str,
    ) -> None:
        self.store, self.runs, self.results, self.adopter = store, runs, results, adopter
        self.executors = executors
        self.scheduler = Scheduler(store, executors)
        self._looked = 0.0

    def open(self) -> None:
        """Adopt what lies in the runs folder, clear what was deleted long ago, and go to work."""
        self.adopt()
        self._clear_trash()
        self.scheduler.open()

    def close(self) -> None:
        """Stop looking after jobs; they go on."""
        self.scheduler.close()

    def adopt(self) -> None:
        """Take in runs that were started on the command line."""
        if time.monotonic() - self._looked > ADOPTING or not self._looked:
            self._looked = time.monotonic()
            if adopt(self.store, self.runs, owner=self.adopter):
                self.scheduler.wake()

    def submit(self, owner: str, kind: Kind, prepared: Prepared, *, name: str = "") -> Job:
        """Queue a job with a snapshot of all it needs.

        Raises:
            UserError: the name is taken or no name, too much is waiting, or the disk is full.
        """
        job_id = new_id()
        folder = self._place(kind, prepared, job_id, name.strip())
        job = Job(
            id=job_id,
            kind=kind,
            owner=owner,
            name=folder.name if kind != "generate" else prepared.name,
            status="queued",
            folder=folder,
            created=time.time(),
            request=prepared.request,
        )
        self._check_waiting(job)
        with RunFolders(folder.parent).creating(folder) as new:
            words = prepared.fill(new, folder)
            Ticket(tuple(words), os.getcwd(), str(folder)).write(new)
        try:
            added = self.store.add(job)
        except BaseException:
            discard(folder)
            raise
        self.scheduler.wake()
        return added

    def resume(self, owner: str, job_id: str) -> Job:
        """Queue a job again that ended early; a training goes on from its newest checkpoint.

        Raises:
            UserError: it has not ended early.
        """
        job = self.get(owner, job_id)
        if job.status not in RESUMABLE or job.trashed:
            raise UserError(f"`{job.name}` has not ended early, so there is nothing to resume.")
        prepare_resume(job)
        if not self.store.requeue(job):
            raise UserError(f"`{job.name}` has changed meanwhile. Look at it again.")
        self.scheduler.wake()
        return self.get(owner, job_id)

    def move(self, owner: str, job_id: str, *, up: bool) -> Job:
        """One place up or down among this user's waiting jobs.

        Raises:
            UserError: it does not wait.
        """
        job = self.get(owner, job_id)
        if job.status != "queued":
            raise UserError(f"`{job.name}` does not wait any more, so it cannot be moved.")
        waiting = [one for one in self.store.in_status("queued") if one.owner == owner]
        places = [one.id for one in waiting]
        here = places.index(job.id) if job.id in places else 0
        other = here - 1 if up else here + 1
        if 0 <= other < len(waiting):
            self.store.move(job.id, waiting[other].position)
            self.store.move(waiting[other].id, job.position)
        return self.get(owner, job_id)

    def delete(self, owner: str, job_id: str) -> Job:
        """Into the trash, from which it can be taken back.

        Raises:
            UserError: it waits or runs.
        """
        job = self.get(owner, job_id)
        if not self.store.trash(job.id):
            raise UserError(f"`{job.name}` is still {job.status}. Cancel it first.")
        return self.get(owner, job_id)

    def restore(self, owner: str, job_id: str) -> Job:
        """Out of the trash."""
        job = self.get(owner, job_id)
        self.store.restore(job.id)
        return self.get(owner, job_id)

    def empty_trash(self, owner: str, *, older_than: float = 0.0) -> int:
        """Delete for good what a user has in the trash; how many jobs that were."""
        latest = time.time() - older_than
        gone = self.store.list(Query(owner=owner, trashed=True))
        old = [job for job in gone if job.trashed and job.trashed <= latest]
        for job in old:
            discard(job.folder)
            self.store.forget(job.id)
        return len(old)

    def rename(self, owner: str, job_id: str, name: str) -> Job:
        """Another name to show; the folder keeps its own.

        Raises:
            UserError: the name is none.
        """
        job = self.get(owner, job_id)
        check_name(name)
        self.store.rename(job, name)
        return self.get(owner, job_id)

    def _place(self, kind: Kind, prepared: Prepared, job_id: str, name: str) -> Path:
        if kind == "generate":
            return self.results / job_id
        return (
            self.runs.claim(name) if name else self.runs.claim(self.runs.free_name(prepared.name))
        )

    def _check_waiting(self, job: Job) -> None:
        waiting = self.store.in_status("queued")
        mine = [one for one in waiting if one.owner == job.owner and one.lane == job.lane]
        if len(mine) >= MOST_WAITING[job.lane]:
            raise UserError(
                f"{len(mine)} of your jobs are waiting already. Wait for one, or cancel one."
            )

    def _clear_trash(self) -> None:
        old = self.store.list(Query(trashed=True))
        for owner in {job.owner for job in old}:
            self.empty_trash(owner, older_than=TRASH_DAYS * 86400)

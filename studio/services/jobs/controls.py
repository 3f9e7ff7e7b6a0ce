"""What a running job can be asked for: its end, a checkpoint, sample images."""

from __future__ import annotations

from collections.abc import Mapping

from orthodiff.batch.stop_request import StopRequest
from orthodiff.errors import UserError
from orthodiff.training.events.requests import Request, ask

from .executor import Executor
from .folders import OUTPUT
from .job import JOB_ID, TRAININGS, Job, Wish
from .scheduler import Scheduler
from .store import JobStore


class NoSuchJobError(UserError):
    """There is no such job, or it is somebody else's: which of the two is nobody's business."""


class JobControls:
    """The buttons of a job; owners have those of their own."""

    store: JobStore
    executors: Mapping[str, Executor]
    scheduler: Scheduler

    def get(self, owner: str, job_id: str) -> Job:
        """A job of this user.

        Raises:
            NoSuchJobError: there is none.
        """
        job = self.store.get(job_id) if JOB_ID.fullmatch(job_id) else None
        if job is None or job.owner != owner:
            raise NoSuchJobError("There is no such job. It may have been deleted.")
        return job

    def cancel(self, owner: str, job_id: str) -> Job:
        """Take a waiting job out of the queue; ask a running one to end, asked again at once.

        Raises:
            UserError: it has ended already.
        """
        job = self.get(owner, job_id)
        if self.store.cancel_queued(job.id):
            return self.get(owner, job_id)
        return self._ask_to_end(owner, job_id, "cancel")

    def pause(self, owner: str, job_id: str) -> Job:
        """Ask a running training to save a checkpoint and end.

        Raises:
            UserError: it is no running training.
        """
        job = self.get(owner, job_id)
        if job.kind not in TRAININGS or job.status != "running":
            raise UserError(f"`{job.name}` is no running training, so it cannot be paused.")
        if job.wish:  # a second signal would end it without a checkpoint
            return job
        return self._ask_to_end(owner, job_id, "pause")

    def sample(self, owner: str, job_id: str) -> Job:
        """Let a running training make its sample images between two steps, and go on.

        Raises:
            UserError: it is no running training, or it has no prompts to sample.
        """
        job = self.get(owner, job_id)
        if job.request.get("validation_prompts") == []:
            raise UserError(
                f"`{job.name}` has no sample prompts, so there is nothing to sample. Duplicate it "
                "with some."
            )
        return self._ask_training(job, "sample")

    def save(self, owner: str, job_id: str) -> Job:
        """Let a running training save a checkpoint between two steps, and go on.

        Raises:
            UserError: it is no running training.
        """
        return self._ask_training(self.get(owner, job_id), "save")

    def stop_after(self, owner: str, job_id: str) -> Job:
        """Let a running batch write the image that it is making, and end; resumed, it goes on.

        Raises:
            UserError: it is no running batch.
        """
        job = self.get(owner, job_id)
        if job.kind != "batch" or job.status != "running":
            raise UserError(
                f"`{job.name}` is no running batch, so there is no image to end after. "
                "Pause a training instead."
            )
        if not self.store.wish(job, "finish"):
            raise UserError(f"`{job.name}` has ended already.")
        StopRequest(job.folder / OUTPUT).make()
        return self.get(owner, job_id)

    def _ask_training(self, job: Job, request: Request) -> Job:
        if job.kind not in TRAININGS or job.status != "running" or job.wish:
            raise UserError(
                f"`{job.name}` is no running training, so it cannot {request} now. Resume it first."
            )
        ask(job.folder, request)
        self.store.touch()
        return job

    def _ask_to_end(self, owner: str, job_id: str, wish: Wish) -> Job:
        job = self.get(owner, job_id)
        hard = job.wish == wish == "cancel"
        if not self.store.wish(job, wish):
            raise UserError(f"`{job.name}` has ended already.")
        self.executors[job.lane].stop(job, hard=hard)
        self.scheduler.wake()
        return self.get(owner, job_id)

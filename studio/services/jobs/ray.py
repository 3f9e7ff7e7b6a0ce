"""Jobs on a Ray cluster, through Ray Jobs: the same command with an id, wherever there is room.

The nodes must see the data folder and the runs under the same paths, as a shared disk has them: a
job's folder stays the truth about it. Ray's own queue decides which node has a GPU to spare. Where
the cluster asks for a token, Ray's client takes it from RAY_AUTH_TOKEN or its token file.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError, first_line

from .executor import EXIT_CODE, Ending, read_exit_code
from .job import Job
from .local import COMMAND, worker_environment
from .work import OWN_LOG

GRACE = 120
"""Seconds that Ray gives a job between SIGTERM, at which a training saves, and SIGKILL."""
ALIVE = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class RayCluster:
    """Where trainings go: the dashboard's `address`, `jobs` at a time with so many `gpus` each."""

    address: str
    jobs: int = 1
    gpus: int = 0


class RayExecutor:
    """Submits jobs under their own ids: one that is submitted again is found, not started twice."""

    def __init__(self, tickets: Path, cluster: RayCluster) -> None:
        self.tickets, self.slots, self.gpus = tickets, cluster.jobs, cluster.gpus
        self.client = _connect(cluster.address)

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        """Submit the job, or find it where an earlier page has submitted it."""
        handle = {"submission": submission_of(job), "slot": slot}
        if self._status(submission_of(job)) in ALIVE:
            return handle
        link = self.tickets / job.id
        if not link.is_symlink():
            link.symlink_to(job.folder, target_is_directory=True)
        (job.folder / EXIT_CODE).unlink(missing_ok=True)
        self.client.submit_job(
            entrypoint=shlex.join([sys.executable, *COMMAND, job.id]),
            submission_id=submission_of(job),
            entrypoint_num_gpus=self.gpus,
            runtime_env={"env_vars": self._environment()},
        )
        return handle

    def ending(self, job: Job) -> Ending | None:
        """How the job ended; None also while the cluster cannot be asked, as the job may live."""
        try:
            status = self._status(submission_of(job))
        except ConnectionError:
            return None
        return None if status in ALIVE else Ending(read_exit_code(job.folder))

    def stop(self, job: Job, *, hard: bool = False) -> None:
        """SIGTERM now, and SIGKILL after `GRACE`: Ray knows no other way, so `hard` adds nothing.

        Raises:
            UserError: the cluster cannot be asked.
        """
        if hard:
            return
        try:
            if self._status(submission_of(job)) in ALIVE:
                self.client.stop_job(submission_of(job))
        except (ConnectionError, RuntimeError) as error:
            raise UserError(
                f"The Ray cluster does not answer ({first_line(error)}). Try again when it does."
            ) from error

    def expect(self, slot: int) -> None:
        """Nothing: no worker waits on a cluster that others use too."""

    def close(self) -> None:
        """Nothing: jobs outlive the page."""

    def _status(self, job_id: str) -> str | None:
        """What Ray says of a submission; None where it knows none.

        Raises:
            ConnectionError: the cluster cannot be asked.
        """
        try:
            return str(self.client.get_job_status(job_id).value)
        except Exception as error:  # of Ray, of its http library, of the system
            if isinstance(error, RuntimeError) and "404" in str(error):
                return None
            raise ConnectionError(first_line(error)) from error

    def _environment(self) -> dict[str, str]:
        grace = {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE), OWN_LOG: "1"}
        return {**worker_environment(self.tickets), **grace}


def submission_of(job: Job) -> str:
    """The id of this attempt: Ray takes an id once, and may end a later job with it by mistake."""
    return job.id if job.attempt <= 1 else f"{job.id}-{job.attempt}"


def _connect(address: str) -> Any:
    """A client of the cluster whose dashboard is at `address`.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer, or not without its token.
    """
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise UserError(
            "The executor `ray` needs Ray. Run `pip install 'orthodiff[cluster]'`."
        ) from error
    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
    except Exception as error:  # of Ray, of its http library, of the system
        raise UserError(
            f"The Ray cluster at {address} cannot be used ({first_line(error)}). Give the address "
            "of its dashboard, such as --ray_address http://127.0.0.1:8265, and the token in "
            "RAY_AUTH_TOKEN if it asks for one."
        ) from error
    return client

"""How a job that ended early is put in order to be started again."""

from __future__ import annotations

import os
import time

from orthodiff.batch.stop_request import StopRequest

from .executor import EXIT_CODE, LOG, Ticket
from .folders import OUTPUT, REQUEST
from .job import TRAININGS, Job
from .progress import can_continue


def prepare_resume(job: Job) -> None:
    """The ticket for going on, and a line in the log that says where it does."""
    (job.folder / EXIT_CODE).unlink(missing_ok=True)
    StopRequest(job.folder / OUTPUT).take_back()
    if job.kind in TRAININGS:
        config = job.folder / REQUEST
        config = config if config.is_file() else job.folder / "config.yaml"
        words = ["train", job.kind, f"--config={config}"]
        if can_continue(job):
            words.append("--resume_from_checkpoint=latest")
        working_dir = _working_dir(job)
        Ticket(tuple(words), working_dir, str(job.folder)).write(job.folder)
    with (job.folder / LOG).open("a") as log:
        log.write(f"--- resumed {time.strftime('%Y-%m-%d %H:%M:%S')} ---\n")


def _working_dir(job: Job) -> str:
    try:
        return Ticket.load(job.folder).working_dir
    except (OSError, ValueError, KeyError):
        return os.getcwd()

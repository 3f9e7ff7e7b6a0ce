"""The worker of a job: `python -m orthodiff.studio.services.jobs.work ID`, the same for all.

Executors start nothing but this constant command with an id. What it does lies in the ticket that
the page has written into the job's folder, so nothing a person typed is ever part of a command.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import UserError

from .executor import LOG, Ticket, write_exit_code
from .job import JOB_ID

PLACE = "ORTHODIFF_STUDIO_TICKETS"
"""Names the folder in which each id links to the folder of its job."""
OWN_LOG = "ORTHODIFF_STUDIO_OWN_LOG"
"""Set where whoever started the worker does not lead what it prints to the job's log."""
CRASHED = 70
"""The exit code of an error that nobody foresaw (EX_SOFTWARE of sysexits.h)."""
WAIT = "--wait"
PATIENCE = 900.0
"""Seconds after which a worker that nobody needed ends and gives its memory back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job with this id; the exit code, which is also left in its folder."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_spare = words == [WAIT]
    job_id = await_job() if is_spare else "".join(words)
    if is_spare and not job_id:
        return 0
    if not JOB_ID.fullmatch(job_id):
        print("error: give the id of a job", file=sys.stderr)
        return 2
    ticket = Ticket.load(Path(os.environ[PLACE]) / job_id)
    folder = Path(ticket.folder)
    os.umask(0o077)
    if is_spare or os.environ.get(OWN_LOG):
        redirect(folder / LOG)
    os.chdir(ticket.working_dir)
    code = CRASHED
    try:
        code = run_command(ticket.words)
    finally:
        write_exit_code(folder, code)
    return code


def await_job() -> str:
    """Read the libraries, then the id of a job from standard input; empty where none comes."""
    read_libraries()
    ready, _, _ = select.select([sys.stdin], [], [], PATIENCE)
    return sys.stdin.readline().strip() if ready else ""


def read_libraries() -> None:
    """What every training of images needs, most of it imported late by `diffusers`."""
    import diffusers
    import transformers

    import orthodiff.training.tasks.dreambooth  # noqa: F401

    for name in ("AutoencoderKL", "UNet2DConditionModel", "DDPMScheduler"):
        getattr(diffusers, name)
    for name in ("CLIPTextModel", "CLIPTokenizer"):
        getattr(transformers, name)


def redirect(log: Path) -> None:
    """Let what is printed from now on go to the job's log; nothing more is read."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in ((0, nothing), (1, target), (2, target)):
        os.dup2(file, number)


def run_command(words: Sequence[str]) -> int:
    """Run an `orthodiff` command in this process."""
    from orthodiff.cli.main import main as command

    try:
        return command(list(words))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


if __name__ == "__main__":
    sys.exit(main())

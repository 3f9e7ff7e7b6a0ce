"""The worker of a job: `python -m orthodiff.studio.services.jobs.work ID`, the same for all.

Executors start nothing but this constant command with an id. What it does lies in the ticket that
the page has written into the job's folder, so nothing a person typed is ever part of a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import UserError

from .executor import Ticket, write_exit_code
from .job import JOB_ID

PLACE = "ORTHODIFF_STUDIO_TICKETS"
"""Names the folder in which each id links to the folder of its job."""
CRASHED = 70


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job with this id; the exit code, which is also left in its folder."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1 or not JOB_ID.fullmatch(words[0]):
        print("error: give the id of a job", file=sys.stderr)
        return 2
    ticket = Ticket.read(Path(os.environ[PLACE]) / words[0])
    folder = Path(ticket.folder)
    os.umask(0o077)
    os.chdir(ticket.working_dir)
    code = CRASHED
    try:
        code = run(ticket.words)
    finally:
        write_exit_code(folder, code)
    return code


def run(words: Sequence[str]) -> int:
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

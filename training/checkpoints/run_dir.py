"""The folder of a run: whose it is, and that only one process writes there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orthodiff.components.registry import INCOMPLETE, withdraw
from orthodiff.errors import UserError
from orthodiff.io.atomic import can_be_written, repair

from ..events.requests import pending_requests, request_file
from .lock import LockedError, exclusive
from .ownership import check_ownership, is_run, own_files
from .sealed import ANNOUNCING, list_checkpoints


def check_output(
    output_dir: Path,
    *,
    resume: bool,
    overwrite: bool,
    start_step: int = 0,
    writes_card: bool = False,
) -> None:
    """Refuse to mix two runs in one folder, and to replace what is not a run's.

    Raises:
        UserError: it is a file, cannot be written, or holds a run that is neither resumed nor
            replaced, or files of others where this run writes.
    """
    try:
        is_file = output_dir.exists() and not output_dir.is_dir()
    except OSError as error:  # a name that is too long
        raise _unwritable(output_dir, error) from error
    if is_file:
        raise UserError(f"The output folder `{output_dir}` is a file. Choose another --output_dir.")
    if not can_be_written(output_dir):
        raise UserError(
            f"The output folder `{output_dir}` cannot be written. Choose another --output_dir."
        )
    if is_run(output_dir) and not resume and not overwrite:
        _refuse_run(output_dir)
    check_ownership(output_dir, after_step=start_step if resume else 0, writes_card=writes_card)


def _refuse_run(output_dir: Path) -> None:
    choose = "choose another --output_dir or replace it with --overwrite_output_dir"
    if any((output_dir / name).exists() for name in ANNOUNCING):
        raise UserError(f"The output folder `{output_dir}` already holds a finished run; {choose}.")
    if list_checkpoints(output_dir):
        raise UserError(
            f"The output folder `{output_dir}` holds an unfinished run; continue it with "
            f"--resume_from_checkpoint latest, {choose}."
        )


@contextmanager
def open_run(
    output_dir: Path,
    *,
    resume: bool,
    overwrite: bool,
    start_step: int = 0,
    writes_card: bool = False,
) -> Iterator[None]:
    """Make the folder and hold its lock, which dies with the process; clear leftovers of a crash.

    Raises:
        UserError: another process trains into this folder, it holds another run, or it cannot be
            written.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output_dir, error) from error
    with ExitStack() as stack:
        _hold(output_dir, stack)
        check_output(
            output_dir,
            resume=resume,
            overwrite=overwrite,
            start_step=start_step,
            writes_card=writes_card,
        )
        if (output_dir / INCOMPLETE).exists():
            withdraw(output_dir)
        repair(output_dir)
        if overwrite and not resume:
            _clear(output_dir)
        yield


def _hold(output_dir: Path, stack: ExitStack) -> None:
    try:
        stack.enter_context(exclusive(output_dir))
    except LockedError as error:
        holder = f" ({error})" if str(error) else ""
        raise UserError(
            f"Another process is training into `{output_dir}`{holder}. "
            "Wait for it or choose another --output_dir."
        ) from error
    except OSError as error:
        raise _unwritable(output_dir, error) from error


def _unwritable(output_dir: Path, error: OSError) -> UserError:
    return UserError(
        f"The output folder `{output_dir}` cannot be written ({error.strerror}). "
        "Choose another --output_dir."
    )


def _clear(output_dir: Path) -> None:
    """Remove a run and nothing else; what announces its parts goes first."""
    withdraw(output_dir)
    folders: set[Path] = set()
    for request in pending_requests(output_dir):
        request_file(output_dir, request).unlink(missing_ok=True)
    for path in list(own_files(output_dir)):
        path.unlink(missing_ok=True)
        folders.update(parent for parent in path.parents if output_dir in parent.parents)
    for checkpoint in list_checkpoints(output_dir):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for folder in sorted(folders, reverse=True):  # the innermost first, and only empty ones
        with suppress(OSError):
            folder.rmdir()

"""The folder of a run: whose it is, and that only one process writes there."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthodiff.components.registry import INCOMPLETE, withdraw
from orthodiff.errors import UserError
from orthodiff.io.atomic import repair

from .sealed import ANNOUNCING, EVENTS, list_checkpoints

WEIGHTS = ("adapter_model.safetensors", "hint_encoder.safetensors")
RUN_FILES = (*ANNOUNCING, *WEIGHTS, "config.yaml", EVENTS)
RUN_FOLDERS = ("samples", "best", "logs/orthodiff")


def check_output(output_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        UserError: it is a file, or holds a run that is neither continued nor replaced.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"The output folder `{output_dir}` is a file. Choose another --output_dir.")
    if resume or overwrite:
        return
    choose = "choose another --output_dir or replace it with --overwrite_output_dir"
    if any((output_dir / name).exists() for name in ANNOUNCING):
        raise UserError(f"The output folder `{output_dir}` already holds a finished run; {choose}.")
    if list_checkpoints(output_dir):
        raise UserError(
            f"The output folder `{output_dir}` holds an unfinished run; continue it with "
            f"--resume_from_checkpoint latest, {choose}."
        )


@contextmanager
def open_run(output_dir: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make the folder and hold its lock, which dies with the process; clear leftovers of a crash.

    Raises:
        UserError: another process trains into this folder, it holds another run, or it cannot be
            written.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock = (output_dir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"The output folder `{output_dir}` cannot be written ({error.strerror}). "
            "Choose another --output_dir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is training into `{output_dir}`. "
                "Wait for it or choose another --output_dir."
            ) from error
        check_output(output_dir, resume=resume, overwrite=overwrite)
        if (output_dir / INCOMPLETE).exists():
            withdraw(output_dir)
        repair(output_dir)
        if overwrite and not resume:
            _clear(output_dir)
        yield


def _clear(output_dir: Path) -> None:
    """Remove a run and nothing else; what announces its parts goes first."""
    withdraw(output_dir)
    for name in RUN_FILES:
        (output_dir / name).unlink(missing_ok=True)
    for folder in (*list_checkpoints(output_dir), *(output_dir / name for name in RUN_FOLDERS)):
        shutil.rmtree(folder, ignore_errors=True)

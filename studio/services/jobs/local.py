"""Trainings as processes on this computer, each in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
from PIL import Image

import orthodiff
from orthodiff.errors import UserError
from orthodiff.training.checkpoints.sealed import find_checkpoint, list_checkpoints
from orthodiff.training.tasks.dreambooth import DreamBoothConfig

from .status import Status, process_of, read_status
from .store import (
    EXIT_CODE,
    LOG,
    REQUEST,
    STOP,
    RunStore,
    write_record,
)

ROOT = Path(orthodiff.__file__).resolve().parents[1]
LEAVING = 20.0
"""Seconds that a process which has told its end gets to be gone."""


class LocalRunner:
    """Starts, continues and stops runs, one at a time; they outlive the page that started them."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._one_at_a_time = threading.Lock()

    def start(
        self, folder: Path, *, photos: Sequence[Image.Image], config: DreamBoothConfig
    ) -> str:
        """Make the run's folder and start its training; the run's name.

        Raises:
            UserError: another run is being trained, or the folder cannot be made.
        """
        with self._one_at_a_time:
            self._check_idle()
            self.store.create(folder, photos=photos, config=config)
            self._launch(folder)
        return folder.name

    def resume(self, name: str) -> None:
        """Go on from the newest checkpoint of a stopped or failed run.

        Raises:
            UserError: another run is being trained, or this one has no checkpoint or no request.
        """
        folder = self.store.folder(name)
        with self._one_at_a_time:
            self._check_idle()
            if not can_resume(folder, read_status(folder)) or not find_checkpoint(folder, "latest"):
                raise UserError(f"The run `{name}` has no checkpoint to go on from. Start it anew.")
            _await_end(folder)
            (folder / STOP).unlink(missing_ok=True)
            (folder / EXIT_CODE).unlink(missing_ok=True)
            self._launch(folder, "--resume_from_checkpoint=latest")

    def stop(self, name: str) -> None:
        """Ask the run's process to save a checkpoint and end; asked again, it ends at once.

        Raises:
            UserError: there is no such run, or it is not being trained.
        """
        folder = self.store.folder(name)
        process = process_of(folder)
        if process is None:
            raise UserError(f"The run `{name}` is not being trained, so there is nothing to stop.")
        (folder / STOP).touch()
        process.send_signal(signal.SIGTERM)

    def active(self) -> str | None:
        """The run that is being trained, if any."""
        runs = self.store.names()
        return next((n for n in runs if read_status(self.store.folder(n)).is_alive), None)

    def _check_idle(self) -> None:
        busy = self.active()
        if busy:
            raise UserError(f"The run `{busy}` is still being trained. Wait for it, or stop it.")

    def _launch(self, folder: Path, *flags: str) -> None:
        command = [
            sys.executable,
            "-m",
            "orthodiff",
            "train",
            "dreambooth",
            f"--config={folder / REQUEST}",
        ]
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
        }
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [*command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        write_record(folder, process.pid)
        threading.Thread(target=_note_end, args=(process, folder), daemon=True).start()


def can_resume(folder: Path, status: Status) -> bool:
    """Whether a run has ended early, and there is something to go on from."""
    ended_early = status.state in ("stopped", "failed")
    return ended_early and (folder / REQUEST).is_file() and bool(list_checkpoints(folder))


def _await_end(folder: Path) -> None:
    """Let a process that has told its end leave the folder.

    Raises:
        UserError: it does not.
    """
    process = process_of(folder)
    try:
        if process:
            process.wait(timeout=LEAVING)
    except psutil.TimeoutExpired as error:
        raise UserError(f"The run `{folder.name}` is still ending. Try again soon.") from error


def _note_end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the process, so that no zombie stays, and keep its exit code beside the run."""
    code = process.wait()
    if folder.is_dir():
        (folder / EXIT_CODE).write_text(str(code), "utf-8")

"""What every way of running a job offers, and how its process is known again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from .job import Job

LOG, EXIT_CODE, TICKET = "log.txt", "exit_code", "ticket.json"
TOLERANCE = 0.05
"""Seconds by which two looks at the start of one process may differ."""


@dataclass(frozen=True)
class Ending:
    """How a process ended; `code` is None where it was killed or is simply gone."""

    code: int | None


class Executor(Protocol):
    """Runs jobs somewhere. `handle` is plain data, enough to find the process after a restart."""

    slots: int

    def start(self, job: Job, slot: int) -> dict[str, Any]:
        """Start the job's command; its handle."""

    def ending(self, job: Job) -> Ending | None:
        """How the job's process ended, or None while it lives."""

    def stop(self, job: Job, *, hard: bool = False) -> None:
        """Ask the process to save and end, or end it at once."""

    def expect(self, slot: int) -> None:
        """Get ready for a job that may come, if that saves time."""

    def close(self) -> None:
        """Let go of everything that need not outlive the page; jobs go on."""


@dataclass(frozen=True)
class Ticket:
    """What a worker is to do: the words of an `orthodiff` command, and where it is started."""

    words: tuple[str, ...]
    working_dir: str
    folder: str

    def write(self, folder: Path) -> None:
        """Put it into the job's folder."""
        content = {"words": self.words, "working_dir": self.working_dir, "folder": self.folder}
        (folder / TICKET).write_text(json.dumps(content), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Ticket:
        """The ticket in a job's folder."""
        content = json.loads((folder / TICKET).read_text("utf-8"))
        return cls(tuple(content["words"]), content["working_dir"], content["folder"])


def identity(pid: int, *, slot: int) -> dict[str, Any]:
    """A handle: a process id alone is reused, with the time of its start it is not."""
    return {"pid": pid, "created": psutil.Process(pid).create_time(), "slot": slot}


def step_back(pid: int, by: int) -> None:
    """Let a worker give way: the page answers at once, whatever is computed beside it."""
    with contextlib.suppress(OSError):  # gone already
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + by)


def process_of(handle: Mapping[str, Any]) -> psutil.Process | None:
    """The live process of a handle, or None."""
    try:
        process = psutil.Process(int(handle["pid"]))
        same = abs(process.create_time() - float(handle["created"])) < TOLERANCE
        alive = process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError):
        return None
    return process if same and alive else None


def memory_of(handle: Mapping[str, Any]) -> int:
    """Bytes of memory that a job's process and its children hold now; 0 where it is gone."""
    process = process_of(handle)
    if process is None:
        return 0
    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def read_exit_code(folder: Path) -> int | None:
    """What the worker wrote as its last act."""
    try:
        return int((folder / EXIT_CODE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_exit_code(folder: Path, code: int) -> None:
    """The worker's last act, whole or not there."""
    new = folder / f".{EXIT_CODE}.{os.getpid()}"
    new.write_text(str(code), "utf-8")
    new.replace(folder / EXIT_CODE)

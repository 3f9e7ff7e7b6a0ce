"""The sampling process: `python -m orthodiff.studio.services.sampling.process`.

It reads folders of jobs from its standard input, one a line, makes their images one job after the
other, and keeps the base model that it used last. It ends when its input ends: with the page. A
lack of memory, or a crash of a kernel, takes this process and never the page.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from pathlib import Path

import torch

from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.training.events.log import EventLog, Failed, Finished, Started, Step

from ..jobs.executor import LOG, write_exit_code
from ..jobs.progress import EVENTS
from ..jobs.work import read_libraries
from .passes import make_images
from .plan import ImagePlan

STOP = "stop"
"""A file in a job's folder that ends it between two steps."""
READY, DONE = "ready", "done"
CANCELLED = 130


class Cancelled(BaseException):  # no Exception: libraries must not catch it
    """Somebody does not want these images any more."""


class Ticker:
    """Tells each step in the job's events, and ends the job where it is not wanted any more."""

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self.log = EventLog(folder / EVENTS)
        self.begun = time.monotonic()
        self.done = 0

    def start(self, total: int) -> None:
        """How many steps there will be."""
        self.begun = time.monotonic()
        self.log(Started(os.getpid(), "images", 0, total, 0, "", "", self.title))

    def __call__(self, done: int, total: int) -> None:
        if (self.folder / STOP).exists():
            raise Cancelled
        self.done = done
        pace = (time.monotonic() - self.begun) / max(done, 1)
        self.log(Step(done, 0.0, 0.0, pace, pace * (total - done)))


class JobSampler:
    """Makes the images of one job after the other."""

    def __init__(self) -> None:
        self.base: Base | None = None

    def do(self, folder: Path) -> int:
        """Make the images of a job; its exit code. What becomes of it is said in its events."""
        plan = ImagePlan.load(folder)
        tick = Ticker(folder, plan.base_title)
        try:
            make_images(self._open(plan.base), plan, folder, tick)
        except Cancelled:
            tick.log(Failed(tick.done, "cancelled"))
            return CANCELLED
        except UserError as error:
            tick.log(Failed(tick.done, str(error)))
            return 2
        except (torch.OutOfMemoryError, MemoryError):
            self.base = None
            tick.log(Failed(tick.done, "The memory ran out. Ask for fewer or smaller images."))
            return 1
        tick.log(Finished(tick.done, time.monotonic() - tick.begun))
        return 0

    def _open(self, name: str) -> Base:
        if self.base is None or self.base.name != name:
            self.base = None
            device = "cuda" if torch.cuda.is_available() else "cpu"
            dtype = torch.float32 if device == "cpu" else torch.float16
            self.base = load_base(name, dtype=dtype, device=device)
        return self.base


def main() -> int:
    """Serve until the page closes the input."""
    os.umask(0o077)
    read_libraries()
    sampler = JobSampler()
    print(READY, flush=True)
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        code = 1
        try:
            with (folder / LOG).open("a") as log, contextlib.redirect_stderr(log):
                code = sampler.do(folder)
        except Exception:  # the next job may be a better one
            sampler.base = None
            with (folder / LOG).open("a") as log:
                traceback.print_exc(file=log)
        finally:
            write_exit_code(folder, code)
        print(DONE, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

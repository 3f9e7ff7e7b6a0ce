"""What people ask of a running training: empty files in its folder, answered between two steps.

`touch RUN/sample_now` makes the validation images of the present step, `touch RUN/save_now` seals
a checkpoint of it. The file is removed once that is done, so whoever asks sees when it was; one
that a crash has left behind is answered when the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

Request = Literal["save", "sample"]
REQUESTS: tuple[Request, ...] = get_args(Request)
"""In the order in which they are answered: images take long, and no step is lost to them."""
PACE = 0.5
"""Seconds between two looks into the folder, however short a step is."""


class RequestFolder:
    """The requests in the folder of a run, looked for at most every `pace` seconds."""

    def __init__(
        self, folder: Path, *, pace: float = PACE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.pace, self.clock = folder, pace, clock
        self._next = 0.0

    def pending(self, *, at_once: bool = False) -> Sequence[Request]:
        """What is asked for now; nothing until it is time for another look, or `at_once`."""
        if self.clock() < self._next and not at_once:
            return ()
        self._next = self.clock() + self.pace
        return pending_requests(self.folder)

    def answered(self, request: Request) -> None:
        """Take a request back that has been carried out."""
        request_file(self.folder, request).unlink(missing_ok=True)


def request_file(folder: Path, request: Request) -> Path:
    """The file that asks for something."""
    return folder / f"{request}_now"


def ask(folder: Path, request: Request) -> None:
    """Ask the training in `folder` for something; asked twice, it is done once.

    Raises:
        OSError: the folder cannot be written.
    """
    request_file(folder, request).touch(mode=0o600)


def pending_requests(folder: Path) -> list[Request]:
    """What the training in `folder` is asked for and has not done yet.

    A file that holds something is somebody's own, and is left alone.
    """
    return [request for request in REQUESTS if _is_empty_file(request_file(folder, request))]


def _is_empty_file(path: Path) -> bool:
    with suppress(OSError):
        return path.is_file() and not path.is_symlink() and path.stat().st_size == 0
    return False

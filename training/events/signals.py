"""Stop politely: a first signal is answered between two steps, a second at once.

The signals are SIGTERM, SIGINT and, from a terminal that is closed, SIGHUP.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

STOPPERS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
NOTHING_YET = "before the first step"
ECHO = 1.0
"""Seconds in which a launcher may repeat to its processes what the terminal has told them."""


class Interrupted(BaseException):  # no Exception: libraries must not catch it
    """The run was asked to stop; `number` is the signal's."""

    def __init__(self, number: int, when: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {when}")
        self.number = number


class StopSignal:
    """While open, a signal ends the run; within `between_steps` the first only sets `received`.

    Outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._at = 0.0
        self._patient = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._receive)
                for number in STOPPERS
                if signal.getsignal(number) != signal.SIG_IGN  # as nohup has it
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Let the block look at `received` when it can stop without a loss."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def agreed(self, accelerator: Accelerator) -> int | None:
        """The signal that this or another process of the run received: the same in all of them."""
        if accelerator.num_processes == 1:
            return self.received
        import torch

        received = torch.tensor([self.received or 0], device=accelerator.device)
        return int(accelerator.gather(received).max()) or None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._patient:
            raise Interrupted(number, NOTHING_YET)
        if self.received is None:
            self.received, self._at = number, time.monotonic()
        elif not is_launched() or time.monotonic() - self._at > ECHO:
            raise Interrupted(number, "at once; go on with --resume_from_checkpoint latest")


def is_launched() -> bool:
    """Whether a launcher started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1

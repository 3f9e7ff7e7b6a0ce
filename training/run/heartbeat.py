"""Signs of life between the processes of a run, so that none waits for one that is gone.

What the processes wait for may rightly take days: class images, or a cache that only one of them
lacks. So no operation between them has a time limit. Instead a thread of each process counts up a
number in the store where they met, and ends its process with a sentence where another one's number
stands still, or the store is gone. That store is kept by the first process or by the launcher.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..events.failures import GO_ON

if TYPE_CHECKING:
    from accelerate import Accelerator

BEAT = 2.0
"""Seconds between two signs of life."""
SILENCE = 40.0
"""Seconds without one after which a process counts as lost."""
GRACE = 5.0
"""Seconds in which a process may find out by itself, and say more than this one could."""
DONE = 1 << 40
"""Added to the number of a process that is through, which nobody need miss."""
FAILED = "failed"


class KeyValueStore(Protocol):
    """What is used of torch's stores."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a number, which is 0 at first, and return it."""


class Heartbeat:
    """The signs of life of process `rank` of `count`, and its eye on the others.

    The first process watches all, and the others watch the first, so that hundreds of processes
    ask the store for few numbers. `end` is called once, from the thread, when one is lost.
    """

    def __init__(
        self,
        store: KeyValueStore,
        rank: int,
        count: int,
        *,
        end: Callable[[str], object],
        beat: float = BEAT,
    ) -> None:
        self.store, self.rank, self.count, self.end, self.beat = store, rank, count, end, beat
        self._watched = [other for other in (range(count) if rank == 0 else (0,)) if other != rank]
        self._seen: dict[int, tuple[int, float]] = {}
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to give and watch signs of life."""
        self._thread.start()

    def leave(self, *, done: bool) -> None:
        """Say that this process ends: it is `done`, or has failed and takes the others with it."""
        if self._left.is_set():
            return
        self._left.set()
        try:
            if done:
                self.store.add(self._key(self.rank), DONE)
            else:
                self.store.add(FAILED, self.rank + 1)
        except RuntimeError:  # the store is gone, and with it those who could hear of it
            return

    def _watch(self) -> None:
        while not self._left.wait(self.beat):
            reason = self._look()
            if reason is None:
                continue
            if not self._left.wait(GRACE):
                self.end(f"{reason}: see why, then {GO_ON}")
            return

    def _look(self) -> str | None:
        """Give a sign of life; who is lost, as a clause."""
        try:
            self.store.add(self._key(self.rank), 1)
            failed = self.store.add(FAILED, 0)
            numbers = {other: self.store.add(self._key(other), 0) for other in self._watched}
        except RuntimeError:  # torch's errors of connections are
            return "the process that the others met at ended"
        if failed:
            return "another process of this run ended"
        for other, number in numbers.items():
            if self._is_silent(other, number):
                self.store.add(FAILED, other + 1)
                return f"process {other} of this run gave no sign of life for {SILENCE:.0f} s"
        return None

    def _is_silent(self, other: int, number: int) -> bool:
        now = time.monotonic()
        last, since = self._seen.get(other, (None, now))
        if number != last:
            self._seen[other] = number, now
            return False
        return number < DONE and now - since > SILENCE

    @staticmethod
    def _key(rank: int) -> str:
        return f"beat/{rank}"


_current: Heartbeat | None = None


def start_heartbeat(accelerator: Accelerator) -> None:
    """Give signs of life to the other processes from here on, if there are any."""
    global _current
    if accelerator.num_processes == 1 or _current is not None:
        return
    rank, count = accelerator.process_index, accelerator.num_processes
    _current = Heartbeat(_connect(), rank, count, end=_end_process)
    _current.start()


def on_loss(tell: Callable[[str], object]) -> None:
    """Have `tell` called with the reason before this process is ended."""
    if _current is not None:
        _current.end = partial(_end_process, tell=tell)


def leave(*, done: bool) -> None:
    """Say to the other processes that this one ends, because it is through or has failed."""
    if _current is not None:
        _current.leave(done=done)


def _connect() -> KeyValueStore:
    """A connection of its own: that of the process group is busy while an operation waits."""
    from torch.distributed import PrefixStore, TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=30))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"orthodiff/{attempt}", store)


def _end_process(reason: str, tell: Callable[[str], object] | None = None) -> None:
    """End at once: the main thread may be waiting in an operation that nothing can break off.

    Checkpoints are sealed in one step, so none is half-written.
    """
    print(f"failed: {reason}", file=sys.stderr, flush=True)
    try:
        if tell:
            tell(reason)
    finally:
        os._exit(1)

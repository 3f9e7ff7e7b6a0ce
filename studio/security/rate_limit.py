"""So many failed logins, and then a wait: per address, and for all together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 60.0
PER_ADDRESS, FOR_ALL = 5, 50
MOST_ADDRESSES = 10_000


class LoginLimit:
    """Counts failures within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._of: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()

    def is_open(self, address: str) -> bool:
        """Whether this address may try now."""
        with self._lock:
            mine = self._recent(self._of.get(address, deque()))
            return len(mine) < PER_ADDRESS and len(self._recent(self._all)) < FOR_ALL

    def failed(self, address: str) -> None:
        """Note a failure."""
        with self._lock:
            if len(self._of) >= MOST_ADDRESSES:
                self._of.clear()
            self._of.setdefault(address, deque()).append(self.clock())
            self._all.append(self.clock())

    def _recent(self, times: deque[float]) -> deque[float]:
        while times and times[0] < self.clock() - WINDOW:
            times.popleft()
        return times

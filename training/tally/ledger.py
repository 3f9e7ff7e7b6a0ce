"""Counts the bytes of storages for as long as somebody has them."""

from __future__ import annotations

import weakref
from typing import Any

import torch


class Ledger:
    """The bytes that are `held` now, and the most that were since the last `restart`."""

    def __init__(self) -> None:
        self.held = self.peak = 0
        self._known: dict[int, Any] = {}

    def note(self, storage: torch.UntypedStorage) -> None:
        """Count a storage from now until it is gone."""
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            del self._known[key]
            self.held -= size

        self._known[key] = weakref.ref(storage, gone)
        self.held += size
        self.peak = max(self.peak, self.held)

    def restart(self) -> int:
        """The peak so far; from now on it is of what follows."""
        peak, self.peak = self.peak, self.held
        return peak

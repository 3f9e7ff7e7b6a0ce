"""The memory that a piece of work takes, counted in the allocator itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from torch.profiler import ProfilerActivity, profile

KEPT_BY_THE_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Settings of glibc: memory once taken is kept. Else page faults take a third of a step's time."""


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Return how far `work` exceeds what is allocated before it: on a GPU and on a CPU."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as trace:
        work()
    events = cast(Any, trace.profiler).kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        peak = max(peak, held)
    return peak


def keep_memory() -> None:
    """Start this program again with an allocator that keeps what it has, on Linux."""
    if sys.platform == "linux" and "MALLOC_TOP_PAD_" not in os.environ:
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, **KEPT_BY_THE_ALLOCATOR})

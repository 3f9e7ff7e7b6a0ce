"""What is done once, not in every step: attaching, loading, merging, strength, generation."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import orthodiff
from benchmarks.workloads import Workload, synchronize

CYCLES = 100
ROUNDS = 5


def operations(workload: Workload) -> dict[str, float]:
    """Return the seconds of each operation for HRA r8, and what merging leaves behind."""
    clock = Clock(workload.device)
    model = workload.copy()
    adapter = clock("attach", lambda: orthodiff.attach(model, orthodiff.HRA(rank=8)))
    for parameter in adapter.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    with tempfile.TemporaryDirectory() as folder:
        adapter.save(folder)
        fresh = workload.copy()
        clock("attach and load", lambda: orthodiff.load(fresh, folder))
    before = [layer.base_layer.weight.clone() for layer in adapter.layers.values()]
    clock("merge", adapter.merge)
    clock("unmerge", adapter.unmerge)
    clock("change the strength", lambda: setattr(adapter, "strength", 0.7))
    clock("merge at strength 0.7", adapter.merge)
    for _ in range(CYCLES):
        adapter.unmerge()
        adapter.merge()
    clock.seconds |= passes(workload, workload.copy(), model)
    adapter.unmerge()
    pairs = zip(before, adapter.layers.values(), strict=True)
    drift = max(
        float((old - k.base_layer.weight).abs().max() / old.abs().max()) for old, k in pairs
    )
    return {**clock.seconds, f"relative drift after {CYCLES} merges": drift}


def passes(workload: Workload, bare: nn.Module, merged: nn.Module) -> dict[str, float]:
    """Return the median seconds of a pass without gradients, bare and merged, and their ratio."""
    seconds: dict[str, list[float]] = {"bare pass": [], "merged pass": []}
    for number in range(ROUNDS + 1):
        for name, model in zip(seconds, (bare, merged), strict=True):
            clock = Clock(workload.device)
            with torch.no_grad():
                clock(name, lambda model=model: model(*workload.inputs))  # type: ignore[misc]
            seconds[name] += [clock.seconds[name]] if number else []
    found = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [m / b for b, m in zip(*seconds.values(), strict=True)]
    return {**found, "merged / bare pass": statistics.median(ratios)}


class Clock:
    """Calls functions and notes their seconds."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, action: Callable[[], Any]) -> Any:
        """Call and note."""
        synchronize(self.device)
        start = time.perf_counter()
        result = action()
        synchronize(self.device)
        self.seconds[name] = time.perf_counter() - start
        return result

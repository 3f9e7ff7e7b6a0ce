"""What is done once, not in every step: attaching, loading, merging, strength, generation.

`python -m benchmarks.operations --json benchmarks/results/operations.json` times it for HRA r8 on a
UNet of Stable Diffusion 1.5's size with random weights, in three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import orthodiff
from benchmarks.support.peak_memory import keep_memory
from benchmarks.support.timed_models import (
    Workload,
    image_maker,
    machine,
    sd15_autoencoder,
    sd15_unet,
    synchronize,
)

CYCLES = 100
PASSES, IMAGES = 15, 7


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
    bare = workload.copy()
    clock.seconds |= side_by_side(
        "pass",
        lambda: bare(*workload.inputs),
        lambda: model(*workload.inputs),
        workload.device,
        rounds=PASSES,
    )
    adapter.unmerge()
    pairs = zip(before, adapter.layers.values(), strict=True)
    drift = max(
        float((old - k.base_layer.weight).abs().max() / old.abs().max()) for old, k in pairs
    )
    return {**clock.seconds, f"relative drift after {CYCLES} merges": drift}


def generation(workload: Workload, autoencoder: nn.Module) -> dict[str, float]:
    """Return the seconds a whole image takes in diffusers' pipeline, bare and with HRA r8 merged.

    The text is encoded before: guidance, scheduler, UNet and autoencoder are what is timed.
    """
    bare, model = workload.copy(), workload.copy()
    orthodiff.attach(model, orthodiff.HRA(rank=8)).merge()
    images = [image_maker(workload, unet, autoencoder) for unet in (bare, model)]
    return side_by_side("picture", *images, workload.device, rounds=IMAGES)


def side_by_side(
    name: str, bare: Callable[[], Any], merged: Callable[[], Any], device: str, *, rounds: int
) -> dict[str, float]:
    """Return the median seconds of both without gradients, and the median of their ratios.

    The two take turns in being first. A round more, the first, is not counted.
    """
    clock = Clock(device)
    seconds: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        turns = [("bare", bare), ("merged", merged)]
        with torch.no_grad():
            for kind, work in reversed(turns) if number % 2 else turns:
                clock(kind, work)
        seconds.append((clock.seconds["bare"], clock.seconds["merged"]))
    middle = [statistics.median(values) for values in zip(*seconds[1:], strict=True)]
    ratio = statistics.median(b / a for a, b in seconds[1:])
    return {
        f"bare {name}": middle[0],
        f"merged {name}": middle[1],
        f"merged / bare {name}": ratio,
    }


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


def main() -> None:
    """Run, print and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    workload = sd15_unet(device, batch=1, checkpointing=False)
    timings = operations(workload) | generation(workload, sd15_autoencoder(workload))
    print("\n".join(f"{name}: {value:.3g}" for name, value in timings.items()))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine(workload), "seconds": timings}, indent=2)
        options.json.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()

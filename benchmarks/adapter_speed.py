"""Time and memory of one training step with each adapter, next to PEFT's, all in one run.

`python -m benchmarks.adapter_speed --json benchmarks/results/adapter_speed.json` takes a UNet of
Stable Diffusion 1.5's size with random weights; `--quick` a stack of its attention layers, in a
minute. Rows take turns, so that a busy machine slows all alike; medians are reported, for ratios
that of the ratios within each round. Memory is what a step needs beyond the model: the allocator's
peak and AdamW's two averages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.compared_adapters import COMPARED_ADAPTERS, Attach
from benchmarks.support.peak_memory import keep_memory, peak_bytes
from benchmarks.support.timed_models import (
    Workload,
    attention_stack,
    machine,
    sd15_unet,
    synchronize,
)

YARDSTICK = "PEFT LoRA r8"


@dataclass
class Row:
    """One adapter's figures; `milliseconds` holds every round after the first."""

    name: str
    parameters: int
    milliseconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        """Median step in milliseconds."""
        return statistics.median(self.milliseconds)

    def times(self, other: Row) -> float:
        """Median over the rounds of this row's step in steps of another's."""
        pairs = zip(self.milliseconds, other.milliseconds, strict=True)
        return statistics.median(mine / others for mine, others in pairs)


class ComparedAdapter:
    """A model with an adapter, and one training step of it."""

    def __init__(self, name: str, attach: Attach, workload: Workload) -> None:
        self.workload = workload
        self.model = attach(workload.copy())
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.row = Row(name, sum(p.numel() for p in parameters))
        self.optimizer = torch.optim.AdamW(parameters) if parameters else None

    def step(self) -> None:
        """Run forward, backward and the optimizer once."""
        self.workload.loss(self.model, floor=self.optimizer is None).backward()
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def timed(self) -> float:
        """Return the milliseconds of one step."""
        synchronize(self.workload.device)
        start = time.perf_counter()
        self.step()
        synchronize(self.workload.device)
        return 1000 * (time.perf_counter() - start)

    def measure_memory(self) -> None:
        """Fill in the bytes that a step needs: its peak and AdamW's averages."""
        self.step()
        averages = 8 * self.row.parameters
        self.row.peak_bytes = peak_bytes(self.step, self.workload.device) + averages


def race(workload: Workload, names: list[str], rounds: int) -> list[Row]:
    """Measure all rows in turns; the first round warms up."""
    rows = [ComparedAdapter(name, COMPARED_ADAPTERS[name], workload) for name in names]
    for entry in rows:
        entry.measure_memory()
    for _ in range(rounds):
        for entry in rows:
            entry.row.milliseconds.append(entry.timed())
    return [entry.row for entry in rows]


def table(rows: list[Row]) -> str:
    """Return the figures as a Markdown table."""
    by_name = {row.name: row for row in rows}
    floor, yardstick = by_name["frozen base"], by_name[YARDSTICK]
    lines = [
        "| adapter | parameters | step ms | / PEFT LoRA r8 | / PEFT's same | MiB over the floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = by_name.get(f"PEFT {row.name}")
        ratio = f"{row.times(same):.2f}" if same else ""
        extra = (row.peak_bytes - floor.peak_bytes) / 2**20
        lines.append(
            f"| {row.name} | {row.parameters:,} | {row.median:.0f} "
            f"| {row.times(yardstick):.3f} | {ratio} | {extra:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="a stack of attention layers")
    parser.add_argument("--rounds", type=int, help="timed steps of every row [5; 3 if quick]")
    parser.add_argument(
        "--rows", nargs="*", choices=COMPARED_ADAPTERS, help="rows besides the first two"
    )
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    options = parser.parse_args()
    keep_memory()
    warnings.filterwarnings("ignore")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make = attention_stack if options.quick else sd15_unet
    workload = make(device, batch=options.batch_size, checkpointing=options.gradient_checkpointing)
    names = list(dict.fromkeys(["frozen base", YARDSTICK, *(options.rows or COMPARED_ADAPTERS)]))
    rows = race(workload, names, options.rounds or (3 if options.quick else 5))
    print(table(rows))
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        save(options.json, workload, settings, rows)


def save(path: Path, workload: Workload, settings: dict[str, Any], rows: list[Row]) -> None:
    """Write all figures and what they were taken on."""
    results = {
        "machine": machine(workload),
        "settings": settings,
        "rows": [{**asdict(row), "median": row.median} for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(results, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    main()

"""The benchmark of adapters runs, on a workload of a few layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from benchmarks.adapter_speed import race, save, table
from benchmarks.operations import generation, operations
from benchmarks.support.compared_adapters import COMPARED_ADAPTERS
from benchmarks.support.timed_models import Projections, Workload
from tests.test_inject import tiny_unet
from tests.tiny import TINY_VAE


class Small(Projections):
    def __init__(self) -> None:
        super().__init__(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x, x)


@pytest.mark.filterwarnings("ignore")  # PEFT tells that BOFT's CUDA extension is missing.
def test_every_contestant_runs_and_is_written(tmp_path: Path) -> None:
    workload = Workload("CPU", "cpu", Small(), Small, (torch.randn(1, 6, 64),))
    rows = race(workload, list(COMPARED_ADAPTERS), 1)
    by_name = {row.name: row for row in rows}
    assert by_name["frozen base"].parameters == 0
    assert by_name["HRA r8"].parameters * 2 == by_name["LoRA r8"].parameters == 4 * 64 * 16
    assert all(row.peak_bytes > 0 for row in rows)
    assert table(rows).count("\n") == len(rows) + 1
    done = operations(workload)
    assert done["relative drift after 100 merges"] == 0
    save(tmp_path / "results" / "speed.json", workload, {"rounds": 1}, rows)
    found = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert len(found["rows"]) == len(COMPARED_ADAPTERS)


def test_whole_images_are_timed() -> None:
    unet, autoencoder = tiny_unet(), AutoencoderKL(**TINY_VAE)
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor(500), torch.randn(1, 5, 32))
    found = generation(Workload("CPU", "cpu", unet, tiny_unet, inputs), autoencoder)
    assert found.keys() == {"bare picture", "merged picture", "merged / bare picture"}
    assert all(value > 0 for value in found.values())

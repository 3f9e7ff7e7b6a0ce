"""What each of two processes does in a test of torch's DistributedDataParallel."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from orthodiff.adapters import Method
from tests import laws
from tests.laws import CASES


def gradients(method: Method, *, rank: int | None, batch: slice) -> list[Tensor]:
    """Return the gradients of two passes over part of a batch, in a group of two or alone."""
    model, adapter = laws.adapted(method)
    parallel: nn.Module = model if rank is None else DistributedDataParallel(model)
    rows = torch.randn(8, laws.WIDTH, generator=torch.Generator().manual_seed(5))
    for scale in (1.0, 2.0):
        parallel(scale * rows[batch]).square().mean().backward()
    return [p.grad for p in adapter.parameters() if p.grad is not None]


def process(rank: int, folder: str) -> None:
    """Write the gradients of every method over this process's half of the batch."""
    warnings.simplefilter("ignore")
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    half = slice(4 * rank, 4 * rank + 4)
    found = {name: gradients(method, rank=rank, batch=half) for name, method in CASES.items()}
    dist.destroy_process_group()
    torch.save(found, Path(folder) / f"{rank}.pt")

"""How many workers this machine gives, and which share of a batch a launched process has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from orthodiff.batch.engines.base import Engine
from orthodiff.batch.engines.local import LocalEngine
from orthodiff.batch.engines.processes import ProcessEngine
from orthodiff.batch.worker import WorkerSpec


def local_engine(spec: WorkerSpec, *, workers: int | None) -> Engine:
    """`workers` on this machine (None: one per GPU, or one); a single one runs in this process."""
    devices = devices_of(spec.options.device, workers)
    if len(devices) == 1:
        one = _on(spec, devices[0])
        return LocalEngine(one.open, one.encoder)
    threads = None if any(devices) else max(_cores() // len(devices), 1)
    return ProcessEngine([replace(_on(spec, device), threads=threads) for device in devices])


def devices_of(asked: str | None, workers: int | None) -> Sequence[str | None]:
    """The device of each worker; None is the default one."""
    _, world = rank_of_launch()
    gpus = torch.cuda.device_count()
    if asked not in (None, "cuda") or not gpus:
        return [asked] * (workers or 1)
    if world > 1:
        return [f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % gpus}"]
    return [f"cuda:{number % gpus}" for number in range(workers or gpus)]


def rank_of_launch() -> tuple[int | None, int]:
    """This process's rank and how many there are, under `accelerate launch` or `torchrun`."""
    world = os.environ.get("WORLD_SIZE", "1")
    if not world.isdigit() or int(world) < 2:
        return None, 1
    return int(os.environ.get("RANK", "0")), int(world)


def _on(spec: WorkerSpec, device: str | None) -> WorkerSpec:
    return replace(spec, options=spec.options.model_copy(update={"device": device}))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

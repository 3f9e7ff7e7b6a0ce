"""The batches of each step, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from orthodiff.models import Objective

from .sampler import Batch, Stream, step_batches


@dataclass(frozen=True)
class StepBatches:
    """One process's share of every step, as a function of the step alone.

    Each of the `streams` gives `share` samples, in batches of `batch_size` for each stream.
    """

    streams: Sequence[Stream]
    share: int
    batch_size: int
    process: int
    processes: int
    objective: Objective
    device: torch.device
    dtype: torch.dtype

    def __call__(self, step: int) -> list[Batch]:
        """The batches of `step`, counted from 1."""
        return [batch.to(self.device, self.dtype) for batch in self.built(step)]

    def built(self, step: int) -> list[Batch]:
        """The same, still on the CPU."""
        return step_batches(
            self.streams,
            step,
            share=self.share,
            most=self.batch_size * len(self.streams),
            process=self.process,
            processes=self.processes,
            objective=self.objective,
        )

    def first_seen(self, count: int) -> Batch:
        """The first samples of the subject, at most `count`, those of the first one's shape."""
        batches = step_batches(
            self.streams[:1],
            1,
            share=count,
            most=count,
            process=0,
            processes=1,
            objective=self.objective,
        )
        return batches[0].to(self.device, self.dtype)


class BatchesAhead:
    """The same batches, those of the next step built by a thread while the device computes.

    They are pinned in memory, so that sending them makes nobody wait. On a CPU the thread would
    only take time from the step itself.
    """

    def __init__(self, batches: StepBatches, *, last_step: int, pin: bool = True) -> None:
        self.batches, self.last_step, self.pin = batches, last_step, pin
        self._worker = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[list[Batch]]] | None = None

    def __call__(self, step: int) -> list[Batch]:
        """The batches of `step`, whichever came before."""
        built = self._next
        batches = built[1].result() if built and built[0] == step else self._build(step)
        if step < self.last_step:
            self._next = step + 1, self._worker.submit(self._build, step + 1)
        return [batch.to(self.batches.device, self.batches.dtype) for batch in batches]

    def _build(self, step: int) -> list[Batch]:
        built = self.batches.built(step)
        return [batch.pinned() for batch in built] if self.pin else built

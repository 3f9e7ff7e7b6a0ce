"""The batches of each step, on the device."""

from __future__ import annotations

from collections.abc import Sequence
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
        batches = step_batches(
            self.streams,
            step,
            share=self.share,
            most=self.batch_size * len(self.streams),
            process=self.process,
            processes=self.processes,
            objective=self.objective,
        )
        return [batch.to(self.device, self.dtype) for batch in batches]

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

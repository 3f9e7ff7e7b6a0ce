"""Runs the same operations again without Python, which takes a third of a small step on a CPU.

The operations of a step's forward and backward passes are recorded as they reach torch's kernels,
below autograd and all modules, and written down as one straight TorchScript function. It calls the
same kernels on the same shapes in the same order, so its numbers are the same, bit for bit.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..latents.sampler import Batch
from .eager import EagerEngine, StepResult
from .packing import Packing
from .recorder import (
    Recorder,
    Recording,
    Results,
    form_of,
)

Compute = Callable[[], Results]
DEFAULT = 4
"""So many calls are computed first: a short run is over before a recording would pay."""


class RecordedEngine:
    """Repeats the operations of `eager` from recordings, one for each form that batches take."""

    def __init__(self, eager: EagerEngine, *, eager_calls: int = DEFAULT) -> None:
        self.eager, self.replay = eager, Replay(eager_calls=eager_calls)

    def step(self, batch: Batch) -> StepResult:
        """The loss and gradients of one batch."""

        def compute() -> Results:
            result = self.eager.step(batch)
            return [result.loss, *result.gradients]

        # a recording holds Python's numbers as they were, so they are part of the form
        form = (batch.regularizer_share, batch.mask is None, batch.control_image is None)
        loss, *gradients = self.replay(batch.tensors(), compute, form=form)
        assert loss is not None
        return StepResult(loss, gradients)


def try_recording() -> None:
    """Record and repeat a product, so that what torch lacks shows before the first step."""
    rows = torch.arange(6.0).view(2, 3)
    expected: Results = [rows @ rows.T]
    _, recording = record([rows], lambda: [rows @ rows.T], Packing())
    if recording is None or not _agree(recording([rows]), expected):
        raise RuntimeError("a recorded product is not the computed one")


class Replay:
    """Computes tensors from `inputs`, from a recording once it has computed some of their shapes.

    After the first calls with inputs of some shapes, all computed, one is recorded, the next
    computed both ways and compared, and from then on only the recording runs. Where that cannot be,
    all is computed.
    """

    def __init__(self, *, eager_calls: int = DEFAULT) -> None:
        self._eager_calls = eager_calls
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, Recording | None] = {}
        self._packing = Packing()

    def __call__(
        self, inputs: Sequence[Tensor], compute: Compute, *, form: Hashable = None
    ) -> Results:
        """What `compute` returns: by nothing but operations on `inputs`, which are others at every
        call, and on other tensors, which stay where they are. All that it takes from Python beside
        them is in `form`.
        """
        form = (form, *map(form_of, inputs))
        self._calls[form] += 1
        if self._calls[form] == self._eager_calls + 1:
            results, self._recordings[form] = record(inputs, compute, self._packing)
            return results
        recording = self._recordings.get(form)
        if recording is None:
            return compute()
        if recording.is_proven:
            return recording(inputs)
        return self._prove(form, recording, inputs, compute)

    def _prove(
        self, form: Any, recording: Recording, inputs: Sequence[Tensor], compute: Compute
    ) -> Results:
        results = compute()
        recording.is_proven = _agree(results, recording(inputs))
        if not recording.is_proven:
            self._recordings[form] = None
            warnings.warn(
                "Steps are not run from a recording, so they take longer: this one came out "
                "otherwise than computed. What was computed is used.",
                stacklevel=3,
            )
        return results


def record(
    inputs: Sequence[Tensor], compute: Compute, packing: Packing
) -> tuple[Results, Recording | None]:
    """What `compute` returns, and how to get it from `inputs` again, or None if it cannot be.

    What depends on chance cannot: blocks that are computed again for their gradients put torch's
    generator back to where it was, which a recording does not see.
    """
    recorder, chance = Recorder(inputs, packing), torch.get_rng_state()
    with recorder:
        results = compute()
    if not torch.equal(chance, torch.get_rng_state()):
        return results, None
    return results, recorder.finish(results)


def _agree(first: Results, second: Results) -> bool:
    """Whether two results have the same bits, NaNs too."""
    return all(
        a is b is None or (a is not None and b is not None and _bits(a) == _bits(b))
        for a, b in zip(first, second, strict=True)
    )


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()

"""A dry run: what a training would take, measured on its own first steps. Nothing of it stays."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import psutil
import torch

from ..checkpoints.sealed import LEAST_KEPT
from ..data.example import Example
from ..events.log import Event
from ..options.config import Config
from ..run.assemble import build_trainer, intervals
from ..run.context import RunContext
from ..tally.estimate import CARD, RunEstimate, estimate

WARM_UP, STEPS = 2, 3
"""First steps, which take longer (they are recorded), and those that are timed."""
IMAGES = 32
"""So many images are encoded, at most; the time for all follows from theirs."""
T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """What was measured: seconds of everything a run does, and bytes of a checkpoint."""

    starting: float
    encoding: float
    measuring: float
    steps: Sequence[float]
    saving: float
    saved: int

    @property
    def pace(self) -> float:
        """Seconds of a step once the first ones are over."""
        return statistics.mean(self.steps[WARM_UP:])

    def stepping(self, count: int) -> float:
        """Seconds of so many steps."""
        return sum(self.steps[: min(count, WARM_UP)]) + self.pace * max(count - WARM_UP, 0)


@dataclass(frozen=True)
class TrainingPlan:
    """What a run would take, by name, in words; `seconds` on the clock in all."""

    seconds: float
    lines: dict[str, str]

    def __str__(self) -> str:
        width = max(map(len, self.lines))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in self.lines.items())


def make_plan(context: RunContext[Config]) -> TrainingPlan:
    """Take a few steps of the run as it is configured, in a folder that vanishes."""
    starting = time.time() - psutil.Process().create_time()
    counted = estimate(context)  # first, as the trial puts an adapter on the base
    config, trial, steps = context.config, _try(context, starting), _steps(context)
    seconds = _seconds(context, trial)
    whole = sum(seconds.values())
    spent = ", ".join(f"{took:.1f} s {what}" for what, took in seconds.items())
    lines = {
        "steps": f"{len(steps)}, {_epochs(context, len(steps)):.1f} epochs",
        "batch": _batch(context),
        "parameters": f"{context.num_parameters:,} of {config.method} on {context.base.name}",
        "time": f"{_clock(whole)} at {trial.pace:.3f} s a step ({spent})",
        "disk": _disk(context, trial),
        "peak memory": _peak(context.base.device),
        "memory on a GPU": gpu_memory(counted),
        "time on a GPU": gpu_time(counted, len(steps)),
    }
    return TrainingPlan(whole, lines | _not_counted(context))


def _try(context: RunContext[Config], starting: float) -> Trial:
    """The run's own start, its first steps, a measurement and a checkpoint."""
    first = context.start_step
    with TemporaryDirectory() as scratch:
        small = _small(context, Path(scratch))
        trainer, encoding = _timed(partial(build_trainer, small, _unheard, eager_calls=0))
        _, measuring = _timed(trainer.validate, 0)  # where it is always due
        taken = range(first + 1, first + WARM_UP + STEPS + 1)
        steps = [_timed(trainer.step, number)[1] for number in taken]
        _, saving = _timed(trainer.save, taken[-1])
        written = Path(scratch).rglob("checkpoint-*/**/*")
        saved = sum(path.stat().st_size for path in written if path.is_file())
    share = len(context.examples) / len(small.examples)
    return Trial(starting, encoding * share, measuring, steps, saving, saved)


def _small(context: RunContext[Config], scratch: Path) -> RunContext[Config]:
    """The same on some of the images; all that it writes goes to `scratch`."""
    config = context.task.trial_config(context.config)
    places = {"output_dir": scratch / "run", "cache_dir": scratch / "cache"}
    return replace(
        context,
        config=config.model_copy(update=places),
        examples=context.examples[:: _every(context.examples)],
        held_out=context.held_out[:: _every(context.held_out)],
    )


def _every(examples: Sequence[Example]) -> int:
    """The distance at which `IMAGES` or fewer reach from the first to the last of them."""
    return math.ceil(len(examples) / IMAGES) or 1


def _timed(work: Callable[..., T], *arguments: object) -> tuple[T, float]:
    begun = time.monotonic()
    return work(*arguments), time.monotonic() - begun


def _unheard(event: Event) -> None:
    """Nobody is told of a trial."""


def _steps(context: RunContext[Config]) -> range:
    """The steps that are left to do."""
    return range(context.start_step + 1, context.config.max_train_steps + 1)


def _saves(context: RunContext[Config]) -> int:
    return sum(map(intervals(context.config).saves, _steps(context)))


def _seconds(context: RunContext[Config], trial: Trial) -> dict[str, float]:
    """What the run spends on what."""
    due = sum(map(intervals(context.config).validates, (context.start_step, *_steps(context))))
    return {
        "to start": trial.starting,
        "to encode": trial.encoding,
        "of steps": trial.stepping(len(_steps(context))),
        "to measure": trial.measuring * due,
        "to save": trial.saving * _saves(context),
    }


def _disk(context: RunContext[Config], trial: Trial) -> str:
    limit = context.config.checkpoints_total_limit or math.inf
    count = min(_saves(context), max(limit, LEAST_KEPT))
    return (
        f"{_size(count * trial.saved)}: {count} checkpoints of {_size(trial.saved)}, "
        "and adapters and images beside them"
    )


def _epochs(context: RunContext[Config], steps: int) -> float:
    return (
        steps
        * context.samples_per_step
        / context.task.samples_per_epoch(context.config, context.examples)
    )


def _batch(context: RunContext[Config]) -> str:
    config, processes = context.config, context.accelerator.num_processes
    return (
        f"{context.samples_per_step} samples a step: {processes} processes x "
        f"{config.train_batch_size} x {config.gradient_accumulation_steps} accumulated"
    )


def _peak(device: torch.device) -> str:
    if device.type == "cuda":
        of, most = f"of {device}", torch.cuda.max_memory_reserved(device)
        room = torch.cuda.get_device_properties(device).total_memory
    else:
        of, most = "of this process", _peak_of_process()
        room = psutil.virtual_memory().total
    return f"{_size(most)} {of}; {_size(room)} are there"


def _peak_of_process() -> int:
    """The most memory that this process has had, in bytes."""
    try:
        import resource
    except ImportError:  # on Windows
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gpu_memory(counted: RunEstimate) -> str:
    """What was counted without a GPU, so that a plan can be made anywhere."""
    start, step, most = (
        f"{each / 2**30:.1f} GiB" for each in (counted.start, counted.step, counted.peak)
    )
    return (
        f"{most} ({start} until the first step, {step} in a step), and what CUDA and its kernels "
        "take"
    )


def gpu_time(counted: RunEstimate, steps: int) -> str:
    """How long a named card takes, from what it would compute."""
    return (
        f"{counted.seconds * steps / 60:.1f} minutes of steps on an {CARD}, an estimate: "
        f"{counted.flops / 1e12:.1f} TFLOP and {counted.launches:,} kernels a step"
    )


def _not_counted(context: RunContext[Config]) -> dict[str, str]:
    left_out = context.task.not_in_trial(context.config)
    return {"not counted": left_out} if left_out else {}


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _size(count: float) -> str:
    """Bytes in words, by thousands."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.{0 if unit == 'bytes' else 1}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"

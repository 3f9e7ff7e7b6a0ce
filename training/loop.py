"""The one training loop, for every method and task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import torch

from .checkpoints.intervals import Intervals
from .checkpoints.manager import CheckpointManager
from .engine import StepEngine
from .events.failures import GO_ON
from .events.log import Report, Scored, Step
from .events.requests import Request, RequestFolder
from .events.signals import NOTHING_YET, Interrupted, StopSignal
from .latents.sampler import Batch
from .objective import derive
from .optim.step import OptimizerStep, Update
from .run.agreement import check_parameters, from_main
from .validation.validator import Validator

if TYPE_CHECKING:
    from accelerate import Accelerator


COMPARED_EVERY = 50
"""Steps after which processes compare their parameters; also before each checkpoint."""


class Trainer:
    """Goes through the steps, from batches over gradients to an update, and reports them.

    It only keeps what `run.assemble.build_trainer` puts together. `batches` gives the batches of a
    step, counted from 1; `samples_per_step` counts those of all processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        batches: Callable[[int], Sequence[Batch]],
        engine: StepEngine,
        optimizer_step: OptimizerStep,
        *,
        validator: Validator,
        checkpoints: CheckpointManager,
        intervals: Intervals,
        requests: RequestFolder,
        report: Report,
        seed: int,
        start_step: int,
        samples_per_step: int,
    ) -> None:
        self.accelerator, self.batches, self.engine = accelerator, batches, engine
        self.optimizer_step, self.validator, self.checkpoints = (
            optimizer_step,
            validator,
            checkpoints,
        )
        self.intervals, self.report, self.seed = intervals, report, seed
        self.requests = requests
        self.start_step, self.samples_per_step = start_step, samples_per_step

    def run(self, stop: StopSignal) -> float | None:
        """Every step from the start or the checkpoint to the last; samples a second.

        After a step come, in this order: its report, the checkpoint, validation, the answer to a
        signal, and what somebody asks for. The checkpoint is saved before validation because that
        takes long and may fail: no step is lost to it, and a resumed run repeats only the
        validation. Signals are looked at before the checkpoint, so that one which is due to a
        signal is saved at once, and again after whatever took long.
        """
        first, last = self.start_step, self.intervals.last_step
        seconds_per_step = None
        check_parameters(self.accelerator, self.optimizer_step.parameters, step=first)
        self.validate(first, stop)
        if number := stop.agreed(self.accelerator):
            raise Interrupted(number, f"after step {first}; {GO_ON}" if first else NOTHING_YET)
        begun, paused = time.monotonic(), 0.0  # paused: seconds that were no training
        for step in range(first + 1, last + 1):
            loss, learning_rate, number = self.step(step, stop)
            seconds_per_step = (time.monotonic() - begun - paused) / (step - first)
            eta = seconds_per_step * (last - step)
            self.report(Step(step, loss, learning_rate, seconds_per_step, eta))
            pause_begun = time.monotonic()
            if self.accelerator.num_processes == 1:  # else all have agreed within the step
                number = stop.received
            saves = number is not None or self.intervals.saves(step)
            if saves:
                self.save(step)
            is_validated = True
            if number is None or step == last:  # a last step is worth its validation, signal or not
                is_validated = self.validate(step, stop)
                if saves or self.intervals.validates(step):
                    number = stop.agreed(self.accelerator)
                if number is not None and not saves:
                    self.save(step)  # so that the resumed run starts here, and validates
            if number is not None and not (is_validated and step == last):
                self.accelerator.wait_for_everyone()  # or a launcher ends the one that still saves
                raise Interrupted(number, f"after step {step}; {GO_ON}")
            self.answer_requests(step, stop)
            paused += time.monotonic() - pause_begun
        return self.samples_per_step / seconds_per_step if seconds_per_step else None

    def step(self, step: int, stop: StopSignal | None = None) -> Update:
        """One update: the mean loss of its batches, its learning rate, and the signals it met.

        Everything random in it follows from (seed, step) and the process, so that a resumed run
        meets the same and no two processes drop the same blocks.
        """
        rank = self.accelerator.process_index
        torch.manual_seed(derive(self.seed, f"step of process {rank}" if rank else "step", step))
        losses = []
        for batch in self.batches(step):
            loss, gradients = self.engine.step(batch)
            self.optimizer_step.accumulate(gradients)
            losses.append(loss)
        total = torch.stack(losses).sum()
        update = self.optimizer_step.update(step, total, stop.received if stop else None)
        if step % COMPARED_EVERY == 0 or self.intervals.saves(step):
            check_parameters(self.accelerator, self.optimizer_step.parameters, step=step)
        return update

    def save(self, step: int) -> None:
        """Seal a checkpoint."""
        if self.accelerator.is_main_process:
            state = self.optimizer_step.state_dict()
            with self.optimizer_step.averaged_weights.shown():
                self.checkpoints.save(step, self.optimizer_step.adapter_set, state)

    def validate(self, step: int, stop: StopSignal | None = None) -> bool:
        """The validation due after `step`, unless an earlier turn of the run has done it.

        It is shared out over the processes, and left off where a signal comes in at one of them:
        the resumed run does it. Returns whether it is complete.
        """
        return self._measure(step, stop) if self.intervals.validates(step) else True

    def answer_requests(self, step: int, stop: StopSignal | None = None) -> None:
        """Save or make images after `step` where somebody asks for it; see `events.requests`."""
        for request in self._requests(step):
            if request == "save" and not self.intervals.saves(step):
                self.save(step)
            if request == "sample" and not self._measure(step, stop):
                return  # the run is to stop: it is answered when the run goes on
            if self.accelerator.is_main_process:
                self.requests.answered(request)

    def _requests(self, step: int) -> Sequence[Request]:
        """What is asked for now. Processes agree on it, which takes a message: now and then."""
        now = partial(self.requests.pending, at_once=step == self.intervals.last_step)
        if self.accelerator.num_processes == 1:
            return now()
        agrees = step % COMPARED_EVERY == 0 or self.intervals.saves(step)
        return from_main(self.accelerator, now) if agrees else ()

    def _measure(self, step: int, stop: StopSignal | None = None) -> bool:
        """Make the images and scores of `step`, unless they are there; whether all are."""
        if self._is_scored(step):
            return True
        leave_off = partial(_leave_off, stop)
        with self.optimizer_step.averaged_weights.shown(), suppress(_LeftOffError):
            for event in self.validator.validate(step, on_step=leave_off, stop=_LeftOffError):
                if not self.accelerator.is_main_process:
                    continue
                if isinstance(event, Scored):
                    self.checkpoints.add_score(event)
                else:
                    self.report(event)
            return True
        return False

    def _is_scored(self, step: int) -> bool:
        """Whether an earlier turn of the run has measured `step`, as the main process knows."""
        return from_main(
            self.accelerator,
            lambda: any(score["step"] == step for score in self.checkpoints.scores),
        )


class _LeftOffError(Exception):
    """Validation was left off, as the run is to stop."""


def _leave_off(stop: StopSignal | None, done: int, total: int) -> None:
    if stop and stop.received:
        raise _LeftOffError

"""The one training loop, for every method and task."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from orthodiff.io.atomic import replace_file

from .checkpoints.manager import CheckpointManager
from .checkpoints.sealed import is_kept, passed_over
from .engine.recorded import Replay, Results
from .events.failures import GO_ON, check_finite
from .events.log import (
    Report,
    Scored,
    Started,
    Step,
)
from .events.signals import NOTHING_YET, Interrupted, StopSignal
from .latents.sampler import Batch, step_batches
from .latents.streams import make_streams
from .objective import (
    derive,
    sample_errors,
    snr_weights,
)
from .optim.step import OptimizerStep
from .run.hardware import attending, replays, set_up
from .run.prepare import RunContext
from .validation.validator import is_due, make_validator

INIT_SAMPLES = 16
"""Samples to which the start of what is learned is suited."""


def train(context: RunContext, report: Report, stop: StopSignal) -> None:
    """Train the adapter and write it to the output folder, telling `report` what happens.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint was saved if there was a step.
        FloatingPointError: loss or gradient are no longer finite numbers.
    """
    config = context.config
    if context.accelerator.is_main_process:
        replace_file(config.output_dir / "config.yaml", config.to_yaml().encode())
    report(_started(context))
    trainer = Trainer(context, report)
    with stop.between_steps():
        pace = trainer.run(stop)
        if context.accelerator.is_main_process:
            trainer.checkpoints.finish(samples_per_second=pace)
    context.accelerator.wait_for_everyone()


class Trainer:
    """Goes through the steps, from batches over the loss to an update, and tells what happens."""

    def __init__(self, context: RunContext, report: Report) -> None:
        self.config, self.accelerator, self.base = context.config, context.accelerator, context.base
        self.context, self.report, self.checkpoints = (
            context,
            report,
            CheckpointManager(context, report),
        )
        self.device, self.dtype = self.base.device, self.base.dtype  # asking takes diffusers long
        self.streams = make_streams(context)
        self.objective = self.base.objective.to(self.device)
        self.validator = make_validator(context, self.streams[0], self.objective)
        self.adapter_set = context.task.attach(self.config, self.base)
        context.task.init_from_data(self.adapter_set, self._first_seen)
        self.base.park_encoders(texts=not self.adapter_set.reads)
        set_up(self.config, self.base.denoiser)
        self.optimizer_step = OptimizerStep(context, self.adapter_set)
        can_replay = replays(self.config, self.device) and not self.adapter_set.reads
        self.replay = Replay() if can_replay else None  # prompts that are read anew are no tensors

    def run(self, stop: StopSignal) -> float | None:
        """Every step from the start or the checkpoint to `max_train_steps`; samples a second."""
        config, first, pace = self.config, self.context.start_step, None
        self.measure(first, stop)
        if asked := stop.agreed(self.accelerator):
            raise Interrupted(asked, f"after step {first}; {GO_ON}" if first else NOTHING_YET)
        begun, away = time.monotonic(), 0.0
        for step in range(first + 1, config.max_train_steps + 1):
            loss, rate = self.step(step)
            pace = (time.monotonic() - begun - away) / (step - first)
            left = pace * (config.max_train_steps - step)
            self.report(Step(step, loss, rate, pace, left))
            paused, asked = time.monotonic(), stop.agreed(self.accelerator)
            saves = asked or is_kept(config, step, last=config.max_train_steps)
            if saves:
                self.save(step)
            whole = True
            if not asked or step == config.max_train_steps:
                whole = self.measure(step, stop)
                if saves or is_due(config, step):
                    asked = stop.agreed(self.accelerator)
                if asked and not saves:
                    self.save(step)  # so that the next turn goes on here, and measures
            if asked and not (whole and step == config.max_train_steps):
                self.accelerator.wait_for_everyone()  # or a launcher ends the one that still saves
                raise Interrupted(asked, f"after step {step}; {GO_ON}")
            away += time.monotonic() - paused
        return step_size(self.context) / pace if pace else None

    def step(self, step: int) -> tuple[float, float]:
        """One update: the mean loss of its batches, and its rate. Chance is from (seed, step)."""
        torch.manual_seed(derive(self.config.seed, "step", step))
        losses, batches = [], self._batches(step)
        for batch in batches:
            with attending(self.config.attention):
                losses.append(self._pass(batch, penalty_share=1 / len(batches)))
        mean = self.accelerator.reduce(torch.stack(losses).sum(), "mean").item()
        check_finite("loss", mean, step=step, rate=self.config.rate)
        return mean, self.optimizer_step.update(step)

    def _pass(self, batch: Batch, *, penalty_share: float) -> Tensor:
        """Add the gradients of `batch` to the parameters'; what it adds to the step's loss."""
        if self.replay is None:
            loss = self._loss(batch, penalty_share=penalty_share)
            self.accelerator.backward(loss)
            return loss.detach()
        compute = partial(self._gradients, batch, penalty_share=penalty_share)
        results = self.replay(batch.tensors(), compute)
        for parameter, gradient in zip(self.optimizer_step.parameters, results[1:], strict=True):
            if parameter.grad is None or gradient is None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad
            else:
                parameter.grad += gradient
        assert results[0] is not None
        return results[0]

    def _gradients(self, batch: Batch, *, penalty_share: float) -> Results:
        """The loss of `batch` and every parameter's gradient, which is left as it was."""
        parameters = self.optimizer_step.parameters
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        loss = self._loss(batch, penalty_share=penalty_share)
        self.accelerator.backward(loss)
        found = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
        return [loss.detach(), *found]

    def _loss(self, batch: Batch, *, penalty_share: float) -> Tensor:
        """What `batch` adds to the loss of its step."""
        snr = snr_weights(self.objective, batch.timesteps, self.config.snr_gamma)
        loss = (self._errors(batch) * batch.weights * snr).sum() / self._share
        with self.accelerator.autocast():
            return loss + self.adapter_set.regularizer() * penalty_share

    def _errors(self, batch: Batch) -> Tensor:
        """The error `(B,)` of each sample, before any weight but the mask's."""
        noisy = self.objective.add_noise(batch.latents, batch.noise, batch.timesteps)
        wanted = self.objective.target(batch.latents, batch.noise, batch.timesteps)
        with self.accelerator.autocast():
            noisy = noisy.to(self.dtype)
            output = self.context.task.predict(self.base, self.adapter_set, noisy, batch)
        unmasked = self.config.unmasked_weight
        return sample_errors(output, wanted, batch.mask, unmasked_weight=unmasked)

    def _batches(self, step: int) -> list[Batch]:
        """This process's share of the step: subject samples, and as many of the class."""
        batches = step_batches(
            self.streams,
            step,
            share=self._share,
            most=self.config.train_batch_size * len(self.streams),
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            objective=self.objective,
        )
        return [batch.to(self.device, self.dtype) for batch in batches]

    def _first_seen(self) -> Batch:
        """The first samples, as many as `INIT_SAMPLES` where they are of one shape."""
        batches = step_batches(
            self.streams[:1],
            1,
            share=INIT_SAMPLES,
            most=INIT_SAMPLES,
            process=0,
            processes=1,
            objective=self.objective,
        )
        return batches[0].to(self.device, self.dtype)

    @property
    def _share(self) -> int:
        """Samples of each stream in a step of one process."""
        return self.config.train_batch_size * self.config.gradient_accumulation_steps

    def save(self, step: int) -> None:
        """Seal a checkpoint."""
        if self.accelerator.is_main_process:
            state = self.optimizer_step.state_dict()
            with self.optimizer_step.averaged_weights.shown():
                self.checkpoints.save(step, self.adapter_set, state)

    def measure(self, step: int, stop: StopSignal | None = None) -> bool:
        """What is due after `step`, unless an earlier turn of the run has done it.

        Pictures are left off where a signal comes in: a continued run makes them. Returns whether
        all was made.
        """
        if not self.accelerator.is_main_process or not is_due(self.config, step):
            return True
        if any(score["step"] == step for score in self.checkpoints.scores):
            return True
        steer = partial(self.context.task.steering, self.config, self.adapter_set)
        with self.optimizer_step.averaged_weights.shown(), suppress(_LeftOffError):
            for event in self.validator.measure(
                step, self._errors, steer, on_step=partial(_leave_off, stop)
            ):
                self.checkpoints.note(event) if isinstance(event, Scored) else self.report(event)
            return True
        return False


class _LeftOffError(Exception):
    """Pictures were left off, as the run is to stop."""


def _leave_off(stop: StopSignal | None, done: int, total: int) -> None:
    if stop and stop.received:
        raise _LeftOffError


def _started(context: RunContext) -> Started:
    config = context.config
    return Started(
        pid=os.getpid(),
        method=config.method,
        parameters=context.num_parameters,
        steps=config.max_train_steps,
        start_step=context.start_step,
        output_dir=str(config.output_dir),
        instance_prompt=context.task.describe(config).get("instance_prompt", ""),
        base=context.base.name,
        processes=context.accelerator.num_processes,
        batch_size=step_size(context),
        passed_over=passed_over(config.output_dir, context.start_step)
        if context.checkpoint
        else (),
    )


def step_size(context: RunContext) -> int:
    """Samples of the subject in one step, over all processes."""
    config = context.config
    share = config.train_batch_size * config.gradient_accumulation_steps
    return share * context.accelerator.num_processes

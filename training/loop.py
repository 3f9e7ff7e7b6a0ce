"""The one training loop, for every method and task."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor

from training.aside import replace_file
from training.batches import Batch, step_batches
from training.events import Finished, Report, Saved, Started, Step
from training.hardware import attending, set_up
from training.learning import Learning
from training.objective import (
    NoiseSchedule,
    add_noise,
    derive,
    sample_errors,
    snr_weights,
    target,
)
from training.prepare import Parts
from training.signals import Interrupted, StopSignal
from training.state import is_kept, save_checkpoint, spread_adapter
from training.streams import make_streams
from training.validation import is_due, make_samples, prompts_used


def train(parts: Parts, report: Report) -> None:
    """Train the adapter and write it to the output folder, telling `report` what happens.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint was saved.
        FloatingPointError: the loss is no longer a finite number.
    """
    config = parts.config
    if parts.accelerator.is_main_process:
        replace_file(config.output_dir / "config.yaml", config.to_yaml().encode())
    report(_started(parts))
    trainer = Trainer(parts, report)
    with StopSignal() as stop:
        trainer.run(stop)
        if parts.accelerator.is_main_process:
            spread_adapter(trainer.last_checkpoint, config.output_dir)
            report(Finished(config.max_train_steps, trainer.seconds))
    parts.accelerator.wait_for_everyone()


class Trainer:
    """Goes through the steps, from batches over the loss to an update, and tells what happens."""

    def __init__(self, parts: Parts, report: Report) -> None:
        self.config, self.accelerator, self.base = parts.config, parts.accelerator, parts.base
        self.parts, self.report, self.begun = parts, report, time.monotonic()
        self.streams = make_streams(parts)
        self.schedule = NoiseSchedule.of(self.base.scheduler).to(self.base.device)
        for prompt in prompts_used(self.config):
            self.base.embed(prompt)
        self.learned = parts.task.attach(self.config, self.base)
        self.base.park_encoders(texts=not self.learned.reads)
        set_up(self.config, self.base.unet)
        self.learning = Learning(parts, self.learned)

    def run(self, stop: StopSignal) -> None:
        """Every step from the start or the checkpoint to `max_train_steps`."""
        config, first = self.config, self.parts.start_step
        if first == 0:
            self._sample(0)
        begun, away = time.monotonic(), 0.0
        for step in range(first + 1, config.max_train_steps + 1):
            loss, rate = self._step(step)
            pace = (time.monotonic() - begun - away) / (step - first)
            left = pace * (config.max_train_steps - step)
            self.report(Step(step, loss, rate, pace, left))
            paused = time.monotonic()
            if is_kept(config, step, last=config.max_train_steps) or stop.received:
                self._save(step)
            self._sample(step)
            away += time.monotonic() - paused
            if stop.received and step < config.max_train_steps:
                raise Interrupted(stop.received, step=step)

    def _step(self, step: int) -> tuple[float, float]:
        """One update: the mean loss of its batches, and its rate. Chance is from (seed, step)."""
        torch.manual_seed(derive(self.config.seed, "step", step))
        losses, batches = [], self._batches(step)
        for batch in batches:
            with attending(self.config.attention):
                loss = self._loss(batch, penalty_share=1 / len(batches))
                self.accelerator.backward(loss)
            losses.append(loss.detach())
        mean = self.accelerator.reduce(torch.stack(losses).sum(), "mean").item()
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss became {mean} at step {step}; lower --learning_rate "
                f"(it was {self.config.rate:g})"
            )
        return mean, self.learning.update()

    def _loss(self, batch: Batch, *, penalty_share: float) -> Tensor:
        """What `batch` adds to the loss of its step."""
        config = self.config
        noisy = add_noise(self.schedule, batch.latents, batch.noise, batch.timesteps)
        wanted = target(self.schedule, batch.latents, batch.noise, batch.timesteps)
        with self.accelerator.autocast():
            noisy = noisy.to(self.base.dtype)
            output = self.parts.task.predict(self.base, self.learned, noisy, batch)
            penalty = self.learned.regularizer()
        errors = sample_errors(output, wanted, batch.mask, unmasked_weight=config.unmasked_weight)
        weights = batch.weights * snr_weights(self.schedule, batch.timesteps, config.snr_gamma)
        return (errors * weights).sum() / self._share + penalty * penalty_share

    def _batches(self, step: int) -> list[Batch]:
        """This process's share of the step: subject samples, and as many of the class."""
        batches = step_batches(
            self.streams,
            step,
            share=self._share,
            most=self.config.train_batch_size * len(self.streams),
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            num_timesteps=len(self.schedule.alphas_cumprod),
        )
        return [batch.to(self.base.device, self.base.dtype) for batch in batches]

    @property
    def _share(self) -> int:
        """Samples of each stream in a step of one process."""
        return self.config.train_batch_size * self.config.gradient_accumulation_steps

    def _sample(self, step: int) -> None:
        if is_due(self.config, step) and self.accelerator.is_main_process:
            resolution = self.parts.resolution
            with self.learning.averaging.shown():
                sample = make_samples(self.config, self.base, step, resolution=resolution)
            self.report(sample)

    def _save(self, step: int) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {**self.learning.state_dict(), "seconds": self.seconds}
        with self.learning.averaging.shown():
            folder = save_checkpoint(
                self.config.output_dir,
                step,
                learned=self.learned,
                state=state,
                base=self.base.name,
                metadata=describe(self.parts, steps=step, seconds=self.seconds),
                limit=self.config.checkpoints_total_limit,
            )
        self.report(Saved(step, folder.name, self.seconds))

    @property
    def seconds(self) -> float:
        """Seconds spent on what is learned by now, earlier turns of the run included."""
        before = self.parts.checkpoint["seconds"] if self.parts.checkpoint else 0.0
        return before + time.monotonic() - self.begun

    @property
    def last_checkpoint(self) -> Path:
        return self.config.output_dir / f"checkpoint-{self.config.max_train_steps}"


def describe(parts: Parts, *, steps: int, seconds: float) -> dict[str, str]:
    """The recipe that goes into the adapter's file."""
    config = parts.config
    return {
        **parts.task.describe(config),
        "steps": str(steps),
        "seed": str(config.seed),
        "learning_rate": f"{config.rate:g}",
        "train_batch_size": str(config.train_batch_size),
        "resolution": str(parts.resolution),
        "base_sha256": parts.base.fingerprint("unet"),
        "seconds": f"{seconds:.1f}",
    }


def _started(parts: Parts) -> Started:
    config = parts.config
    return Started(
        pid=os.getpid(),
        method=config.method,
        parameters=parts.num_parameters,
        steps=config.max_train_steps,
        start_step=parts.start_step,
        output_dir=str(config.output_dir),
        instance_prompt=parts.task.describe(config).get("instance_prompt", ""),
        base=parts.base.name,
    )

"""The trainer of a run, put together from its context: each room gets the few values it needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from orthodiff.evaluation.metrics.efficientnet import offline_judges
from orthodiff.io.atomic import replace_file
from orthodiff.io.images import square
from orthodiff.models import Objective

from ..checkpoints.intervals import Intervals
from ..checkpoints.manager import CheckpointManager
from ..checkpoints.recipe import TrainingRecipe
from ..checkpoints.sealed import passed_over
from ..engine import EagerEngine, choose_engine
from ..events.log import Report, Started
from ..events.requests import RequestFolder
from ..events.signals import StopSignal
from ..latents.batches import BatchesAhead, StepBatches
from ..latents.cache import default_cache
from ..latents.sampler import Batch, Stream
from ..latents.streams import StreamSettings, make_stream
from ..loop import Trainer
from ..loss import BatchLoss
from ..optim.build import make_lr_scheduler, make_optimizer
from ..optim.ema import AveragedWeights
from ..optim.step import OptimizerStep
from ..options.config import Config
from ..validation.scores import PHOTOS, ValidationScorer
from ..validation.validator import ValidationPrompts, Validator, fixed_batches
from .context import RunContext
from .hardware import attention_kernel, records, set_up
from .shares import Shares

if TYPE_CHECKING:
    from orthodiff.components.adapter_set import AdapterSet

INIT_SAMPLES = 16
"""Samples to which the start of what is learned is fitted."""


def train(context: RunContext[Config], report: Report, stop: StopSignal) -> None:
    """Train the adapter and write it to the output folder, reporting what happens.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint was saved if there was a step.
        FloatingPointError: loss or gradient are no longer finite numbers.
    """
    config, is_main = context.config, context.accelerator.is_main_process
    if is_main:
        replace_file(config.output_dir / "config.yaml", config.to_yaml().encode())
    report(_started(context))
    trainer = build_trainer(context, report)
    with stop.between_steps():
        samples_per_second = trainer.run(stop)
        if is_main:
            trainer.checkpoints.finish(samples_per_second=samples_per_second)
    context.accelerator.wait_for_everyone()


def build_trainer(
    context: RunContext[Config], report: Report, *, eager_calls: int | None = None
) -> Trainer:
    """Encode what is learned from, put the adapter on the base, and assemble all the rest.

    `eager_calls` is for `engine.choose_engine`.
    """
    config, accelerator, base, task = (
        context.config,
        context.accelerator,
        context.base,
        context.task,
    )
    device, dtype = base.device, base.dtype  # asking takes diffusers long
    objective = base.objective.to(device)
    with base.lending.stage():
        streams = _streams(context)
        validation_batches = _validation_batches(context, streams[0], objective)
    validation_scorer = _validation_scorer(context)
    batches = StepBatches(
        streams,
        context.samples_per_process,
        config.train_batch_size,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        objective=objective,
        device=device,
        dtype=dtype,
    )
    context.examples.close()
    context.prior_given.close()
    # the adapter comes after everything that the base's encoders, as they were, are needed for
    base.keep_denoiser_on_device()
    adapter_set = task.attach(config, base)
    task.init_from_data(adapter_set, partial(batches.first_seen, INIT_SAMPLES))
    if adapter_set.reads:
        base.keep_texts_on_device()
    set_up(config, base.denoiser)

    def predict(noisy: Tensor, batch: Batch) -> Tensor:
        return task.predict(base, adapter_set, noisy, batch)

    loss = BatchLoss(
        predict,
        adapter_set.regularizer,
        objective,
        samples=context.samples_per_process,
        snr_gamma=config.snr_gamma,
        unmasked_weight=config.unmasked_weight,
        dtype=dtype,
    )
    eager = EagerEngine(
        loss,
        adapter_set.parameters(),
        backward=accelerator.backward,
        context=partial(attention_kernel, config.attention),
    )
    # prompts that are read anew in each step are no tensors, so they cannot be recorded
    can_record = records(config, device) and not adapter_set.reads
    ahead = device.type == "cuda"
    return Trainer(
        accelerator,
        BatchesAhead(batches, last_step=config.max_train_steps) if ahead else batches,
        choose_engine(eager, record=can_record, eager_calls=eager_calls),
        _optimizer_step(context, adapter_set),
        validator=Validator(
            base,
            config.output_dir,
            ValidationPrompts.grid(
                config.validation_prompt,
                images_each=config.num_validation_images,
                seed=config.seed,
                resolution=context.resolution,
            ),
            batches=[batch.to(device, dtype) for batch in validation_batches],
            # these words are in the events of earlier runs: scores of other words are not compared
            loss_of="held-out pictures" if context.held_out else "training pictures",
            errors=loss.errors,
            steer=partial(task.steering, config, adapter_set),
            shares=Shares(accelerator),
            scorer=validation_scorer,
        ),
        checkpoints=_checkpoint_manager(context, report),
        intervals=intervals(config),
        requests=RequestFolder(config.output_dir),
        report=report,
        seed=config.seed,
        start_step=context.start_step,
        samples_per_step=context.samples_per_step,
    )


def intervals(config: Config) -> Intervals:
    """After which steps this run saves and validates."""
    return Intervals(config.checkpointing_steps, config.validation_steps, config.max_train_steps)


def recipe(context: RunContext[Config]) -> TrainingRecipe:
    """What the adapter's file will say of this run."""
    config = context.config
    return TrainingRecipe(
        task=context.task.describe(config),
        seed=config.seed,
        learning_rate=config.peak_lr,
        train_batch_size=config.train_batch_size,
        resolution=context.resolution,
        base_sha256=context.base.fingerprint(),
    )


def _streams(context: RunContext[Config]) -> list[Stream]:
    """The subject's stream, and with prior preservation that of the class; all encoded.

    The processes that see the same cache share out what it lacks: all of them, or those of a node.
    Then each reads all from there, and encodes what it does not find after all.
    """
    config, base, task, accelerator = (
        context.config,
        context.base,
        context.task,
        context.accelerator,
    )
    settings, shares = _stream_settings(context), Shares(accelerator)
    prior = task.prior_examples(
        config,
        base,
        given=context.prior_given,
        resolution=context.resolution,
        shares=shares,
    )
    if shares.count > 1:
        ranks = shares.seeing(settings.cache_dir)
        for examples in (context.examples, prior):
            share = examples[ranks.index(shares.rank) :: len(ranks)]
            make_stream(base, "share", share, settings)
    accelerator.wait_for_everyone()
    streams = [make_stream(base, "subject", context.examples, settings)]
    if prior:
        weight = task.prior_weight(config)
        streams.append(make_stream(base, "class", prior, settings, weight=weight))
    return streams


def _stream_settings(context: RunContext[Config]) -> StreamSettings:
    config = context.config
    return StreamSettings(
        views=config.views(context.resolution, factor=context.base.factor, seed=config.seed),
        captions=config.caption_rules(seed=config.seed),
        cache_dir=config.cache_dir or default_cache(),
        seed=config.seed,
        unit=context.samples_per_step,
        noise_offset=config.noise_offset,
        condition=context.task.condition(config),
        skip_bad_files=config.skip_bad_files,
    )


def _validation_batches(
    context: RunContext[Config], trained: Stream, objective: Objective
) -> Sequence[Batch]:
    """Of held-out images, or if there are none of those of the `trained` stream.

    The prompts of validation images are read here too, while the text encoders are as they were.
    """
    config, base = context.config, context.base
    if config.validation_prompt:
        base.negative_embeds("")
    for prompt in config.validation_prompt:
        base.embed(prompt)
    stream = trained
    if context.held_out:
        stream = make_stream(base, "held-out", context.held_out, _stream_settings(context))
    return fixed_batches(
        stream,
        config.validation_samples,
        batch_size=config.train_batch_size,
        objective=objective,
    )


def _validation_scorer(context: RunContext[Config]) -> ValidationScorer | None:
    if context.scorer is None:
        return None
    examples = context.examples[:PHOTOS] if context.task.has_subject else ()
    photos = [square(example.image, context.resolution) for example in examples]
    prompt = context.task.describe(context.config).get("instance_prompt", "")
    return ValidationScorer(
        context.scorer,
        photos,
        instance_prompt=prompt,
        subject_scorers=offline_judges(context.base.device),
        device=context.base.device,
    )


def _optimizer_step(context: RunContext[Config], adapter_set: AdapterSet) -> OptimizerStep:
    config, accelerator = context.config, context.accelerator
    parameters = {name: part.parameters() for name, part in adapter_set.components.items()}
    optimizer = make_optimizer(
        config,
        parameters,
        {name: config.lr_for(name) for name in parameters},
        processes=accelerator.num_processes,
    )
    decay = config.ema_decay if config.use_ema else None
    step = OptimizerStep(
        adapter_set,
        accelerator.prepare_optimizer(optimizer),
        make_lr_scheduler(config, optimizer),
        AveragedWeights(adapter_set, optimizer, decay=decay),
        accelerator=accelerator,
        max_grad_norm=config.max_grad_norm,
        peak_learning_rate=config.peak_lr,
    )
    if context.checkpoint:
        step.load_state_dict(context.checkpoint)
    return step


def _checkpoint_manager(context: RunContext[Config], report: Report) -> CheckpointManager:
    config = context.config
    return CheckpointManager(
        config.output_dir,
        report,
        base=context.base.name,
        recipe=recipe(context),
        config=config.resolved(),
        provenance=context.provenance,
        last_step=config.max_train_steps,
        limit=config.checkpoints_total_limit,
        start_step=context.start_step,
        seconds_before=context.seconds_before,
    )


def _started(context: RunContext[Config]) -> Started:
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
        batch_size=context.samples_per_step,
        passed_over=passed_over(config.output_dir, context.start_step)
        if context.checkpoint
        else (),
    )

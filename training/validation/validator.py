"""What is made and measured on the way, always the same way: fixed seeds, noises and timesteps.

Nothing here draws from the training's chance, so a run ends at the same bits with or without it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from orthodiff.control import Steering
from orthodiff.io.atomic import replace_file
from orthodiff.io.hashing import content_key
from orthodiff.io.images import square
from orthodiff.models import Base, Objective
from orthodiff.sampling import GenerateRequest, OnStep, generate

from ..checkpoints.sealed import is_kept
from ..events.log import Sample, Scored
from ..latents.sampler import Batch, Stream, pack
from ..latents.streams import make_stream
from .scores import PHOTOS, ValidationScorer

if TYPE_CHECKING:
    from ..options.config import RunConfig
    from ..run.prepare import RunContext

Errors = Callable[[Batch], Tensor]
"""A batch -> the error `(B,)` of each of its samples."""
Steer = Callable[[GenerateRequest], Steering | None]
"""What is to be made -> what steers it beside its prompts."""


def is_due(config: RunConfig, step: int) -> bool:
    """At step 0, every `validation_steps`, and wherever a checkpoint is due."""
    return step % config.validation_steps == 0 or is_kept(config, step, last=config.max_train_steps)


def make_validator(context: RunContext, trained: Stream, objective: Objective) -> Validator:
    """Measure on held-out pictures, or if there are none on those of the `trained` stream.

    To be called before the base is adapted and its encoders leave the device.
    """
    config, base = context.config, context.base
    if config.validation_prompt:
        base.negative_embeds("")
    for prompt in config.validation_prompt:
        base.embed(prompt)
    source = make_stream(context, "held-out", context.held_out) if context.held_out else trained
    described = context.task.describe(config).get("instance_prompt", "")
    seen = context.examples[:PHOTOS] if context.scorer and context.task.has_subject else []
    photos = [square(example.image, context.resolution) for example in seen]
    return Validator(
        config,
        base,
        resolution=context.resolution,
        batches=fixed_batches(context, source, objective),
        loss_of="held-out pictures" if context.held_out else "training pictures",
        judge=ValidationScorer(context.scorer, photos, instance_prompt=described)
        if context.scorer
        else None,
    )


def fixed_batches(context: RunContext, source: Stream, objective: Objective) -> list[Batch]:
    """`validation_samples` triples of picture, noise and timestep, each with its caption."""
    captions = replace(source.encoded.captions, dropout=0.0)
    stream = replace(
        source, name="validation", unit=1, encoded=replace(source.encoded, captions=captions)
    )
    count, most = context.config.validation_samples, context.config.train_batch_size
    triples = [stream.at(position, objective=objective) for position in range(count)]
    return [batch.to(context.base.device, context.base.dtype) for batch in pack(triples, most=most)]


class Validator:
    """Measures on `batches`, the same every time; without any there is no loss.

    `judge`, if there is one, scores the pictures.
    """

    def __init__(
        self,
        config: RunConfig,
        base: Base,
        *,
        resolution: int,
        batches: Sequence[Batch],
        loss_of: str,
        judge: ValidationScorer | None,
    ) -> None:
        self.config, self.base, self.resolution = config, base, resolution
        self.batches, self.loss_of, self.judge = batches, loss_of, judge

    def measure(
        self, step: int, errors: Errors, steer: Steer, *, on_step: OnStep | None = None
    ) -> Iterator[Sample | Scored]:
        """Make the pictures and the scores of `step`; `on_step` hears of each denoising step."""
        pictures: list[Image.Image] = []
        maps: Sequence[Image.Image] = ()
        prompts, seeds, side = prompts_of(self.config), seeds_of(self.config), self.resolution
        if prompts:
            request = GenerateRequest(prompts, seeds, width=side, height=side)
            steering = steer(request)
            maps = steering.maps if steering else ()
            pictures = generate(self.base, request, steering=steering, on_step=on_step)
            yield self._keep(step, pictures)
        loss = self._loss(errors)
        score = Scored(step, loss, self.loss_of, measured_on=self._measured_on(maps))
        if self.judge and pictures:
            subject, prompt = self.judge.similarities(pictures, prompts)
            yield replace(
                score,
                subject_similarity=subject,
                prompt_similarity=prompt,
                scorer=self.judge.scorer.name,
            )
        elif loss is not None:
            yield score

    def _measured_on(self, maps: Sequence[Image.Image]) -> str:
        """A hash of everything but the adapter that scores depend on."""
        photos = self.judge.photos if self.judge else ()
        asked = json.dumps([prompts_of(self.config), seeds_of(self.config), self.resolution])
        seen = (picture.tobytes() for picture in (*photos, *maps))
        return content_key(asked, *seen, *self._samples)[:16]

    @cached_property
    def _samples(self) -> list[str | bytes]:
        """The fixed samples as bytes."""
        tensors = (
            t for batch in self.batches for t in (batch.latents, batch.noise, batch.timesteps)
        )
        prompts = (prompt for batch in self.batches for prompt in batch.prompts)
        return [*prompts, *(t.cpu().double().numpy().tobytes() for t in tensors)]

    def _keep(self, step: int, pictures: Sequence[Image.Image]) -> Sample:
        """Write `samples/step-NNNNNN/NN.png`, one per validation prompt and seed."""
        paths = []
        for number, picture in enumerate(pictures):
            name = f"samples/step-{step:06d}/{number:02d}.png"
            _write(picture, self.config.output_dir / name)
            paths.append(name)
        return Sample(step, paths, prompts_of(self.config), seeds_of(self.config))

    @torch.no_grad()
    def _loss(self, errors: Errors) -> float | None:
        """The mean error over all samples."""
        if not self.batches:
            return None
        was_training = self.base.denoiser.training
        self.base.denoiser.eval()
        each = torch.cat([errors(batch) for batch in self.batches])
        found = each.cpu().double().mean().item()  # some devices have no float64
        self.base.denoiser.train(was_training)
        return found


def prompts_of(config: RunConfig) -> tuple[str, ...]:
    """The prompt of each picture."""
    return tuple(p for p in config.validation_prompt for _ in range(config.num_validation_images))


def seeds_of(config: RunConfig) -> tuple[int, ...]:
    """The seed of each picture: every prompt meets the same ones."""
    seeds = range(config.seed, config.seed + config.num_validation_images)
    return tuple(seeds) * len(config.validation_prompt)


def _write(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    picture.save(packed, format="PNG")
    replace_file(path, packed.getvalue())

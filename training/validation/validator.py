"""What is made and measured on the way, always the same way: fixed seeds, noises and timesteps.

Nothing here draws from the training's chance, so a run ends at the same bits with or without it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from orthodiff.control import Steering
from orthodiff.io.atomic import replace_file
from orthodiff.io.hashing import content_key
from orthodiff.models import Base, Objective
from orthodiff.sampling import GenerateRequest, OnStep, generate

from ..events.log import Sample, Scored
from ..latents.sampler import Batch, Stream, pack
from ..run.shares import Shares
from .scores import ValidationScorer

Errors = Callable[[Batch], Tensor]
"""A batch -> the error `(B,)` of each of its samples."""
Steer = Callable[[GenerateRequest], Steering | None]
"""What is to be made -> what steers it beside its prompts."""


@dataclass(frozen=True)
class ValidationPrompts:
    """The images to make: one for each prompt and seed, of `resolution` pixels a side."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    resolution: int

    @classmethod
    def grid(
        cls, prompts: Sequence[str], *, images_each: int, seed: int, resolution: int
    ) -> ValidationPrompts:
        """Every prompt with the same `images_each` seeds, counted from `seed`."""
        each = tuple(prompt for prompt in prompts for _ in range(images_each))
        seeds = tuple(range(seed, seed + images_each)) * len(prompts)
        return cls(each, seeds, resolution)

    def request(self) -> GenerateRequest:
        """What the sampler is asked for."""
        side = self.resolution
        return GenerateRequest(self.prompts, self.seeds, width=side, height=side)


def fixed_batches(
    stream: Stream, count: int, *, batch_size: int, objective: Objective
) -> list[Batch]:
    """`count` triples of image, noise and timestep, each with its caption, the same every time."""
    captions = replace(stream.encoded.captions, dropout=0.0)
    fixed = replace(
        stream, name="validation", unit=1, encoded=replace(stream.encoded, captions=captions)
    )
    triples = [fixed.at(position, objective=objective) for position in range(count)]
    return pack(triples, most=batch_size)


class Validator:
    """Makes images in `output_dir` and measures on `batches`, the same every time.

    Without batches there is no loss; `scorer`, if there is one, scores the images.
    """

    def __init__(
        self,
        base: Base,
        output_dir: Path,
        prompts: ValidationPrompts,
        *,
        batches: Sequence[Batch],
        loss_of: str,
        errors: Errors,
        steer: Steer,
        scorer: ValidationScorer | None = None,
        shares: Shares | None = None,
    ) -> None:
        self.base, self.output_dir, self.prompts = base, output_dir, prompts
        self.batches, self.loss_of, self.errors = batches, loss_of, errors
        self.steer, self.scorer, self.shares = steer, scorer, shares or Shares()

    def validate(
        self, step: int, *, on_step: OnStep | None = None, stop: type[Exception] | None = None
    ) -> Iterator[Sample | Scored]:
        """Make the images and the scores of `step`; `on_step` hears of each denoising step.

        Images and losses are shared out over the processes, which all come to the same; the main
        one writes them. A `stop` that `on_step` raises in one process is raised in all.
        """
        images: list[Image.Image] = []
        control_images: Sequence[Image.Image] = ()
        if self.prompts.prompts:
            request = self.prompts.request()
            steering = self.steer(request)
            control_images = steering.control_images if steering else ()
            images = self._images(request, steering, on_step, stop)
            yield self._save(step, images)
        loss = self._loss()
        score = Scored(step, loss, self.loss_of, measured_on=self._measured_on(control_images))
        if self.scorer and images and self.shares.is_main:
            subject, prompt = self.scorer.similarities(images, self.prompts.prompts)
            yield replace(
                score,
                subject_similarity=subject,
                prompt_similarity=prompt,
                scorer=self.scorer.scorer.name,
                subject_similarities=self.scorer.subject_similarities(images),
            )
        elif loss is not None:
            yield score

    def _images(
        self,
        request: GenerateRequest,
        steering: Steering | None,
        on_step: OnStep | None,
        stop: type[Exception] | None,
    ) -> list[Image.Image]:
        """Those of a request, its batches shared out: rounding differs with a batch's size."""
        starts = range(0, len(request.prompts), request.batch_size)
        batches = [slice(start, start + request.batch_size) for start in starts]

        def images_of(batch: slice) -> list[Image.Image]:
            own = replace(request, prompts=request.prompts[batch], seeds=request.seeds[batch])
            steered = steering and replace(steering, control_images=steering.control_images[batch])
            return generate(self.base, own, steering=steered, on_step=on_step)

        made = self.shares.map(images_of, batches, stop=(stop,) if stop else ())
        return list(chain.from_iterable(made))

    def _measured_on(self, control_images: Sequence[Image.Image]) -> str:
        """A hash of everything but the adapter that scores depend on."""
        photos = self.scorer.photos if self.scorer else ()
        made = self.prompts
        settings = json.dumps([made.prompts, made.seeds, made.resolution])
        pixels = (image.tobytes() for image in (*photos, *control_images))
        return content_key(settings, *pixels, *self._samples)[:16]

    @cached_property
    def _samples(self) -> list[str | bytes]:
        """The fixed samples as bytes."""
        tensors = (
            t for batch in self.batches for t in (batch.latents, batch.noise, batch.timesteps)
        )
        prompts = (prompt for batch in self.batches for prompt in batch.prompts)
        return [*prompts, *(t.cpu().double().numpy().tobytes() for t in tensors)]

    def _save(self, step: int, images: Sequence[Image.Image]) -> Sample:
        """Write `samples/step-NNNNNN/NN.png`, one per validation prompt and seed."""
        paths = []
        for number, image in enumerate(images):
            name = f"samples/step-{step:06d}/{number:02d}.png"
            if self.shares.is_main:
                _write(image, self.output_dir / name)
            paths.append(name)
        return Sample(step, paths, self.prompts.prompts, self.prompts.seeds)

    @torch.no_grad()
    def _loss(self) -> float | None:
        """The mean error over all samples."""
        if not self.batches:
            return None
        model: Any = self.base.denoiser
        was_training = model.training
        model.eval()
        errors = self.shares.map(lambda batch: self.errors(batch).cpu(), self.batches)
        model.train(was_training)
        return torch.cat(errors).double().mean().item()  # some devices have no float64


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    replace_file(path, encoded.getvalue())

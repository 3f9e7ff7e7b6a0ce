"""Makes chunks of images with one base model, in whatever process an engine puts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from orthodiff.batch.base_card import BaseCard, device_name
from orthodiff.batch.encode import Encoder, Made, Missed
from orthodiff.batch.ids import Hashes
from orthodiff.batch.measure import Measurement, TimedImages, best_batch_size, step_seconds
from orthodiff.batch.plan import Chunk, Item
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import Steering, overlay
from orthodiff.devices import release_freed
from orthodiff.errors import UserError, first_line
from orthodiff.io.images import open_control_image, open_image
from orthodiff.io.png_metadata import ImageRecipe
from orthodiff.logs import quiet_libraries
from orthodiff.models import Base
from orthodiff.options.control import ControlOptions
from orthodiff.options.sampling import SamplingOptions
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.schedulers import sampler_title, scheduler_class


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker in another process needs: `options` open the base, `control` its maps."""

    options: SamplingOptions
    control: ControlOptions
    encoder: Encoder = field(default_factory=Encoder)
    threads: int | None = None

    def open(self) -> Worker:
        """Load the base.

        Raises:
            UserError: it cannot be loaded.
        """
        quiet_libraries()
        if self.threads:
            torch.set_num_threads(self.threads)
        return Worker(self.options.open_base(), self.options, self.control)


class Worker:
    """A base with whatever adapter the present chunk asks for."""

    def __init__(self, base: Base, options: SamplingOptions, control: ControlOptions) -> None:
        self.base, self.options, self.control = base, options, control
        self.card = BaseCard.of(base)
        self.adapter_set: AdapterSet | None = None
        self.notes: list[str] = []
        self._on_base: Any = ((), 1.0, False)
        self._hashes = Hashes()

    def close(self) -> None:
        """Leave the base as it was."""
        self._put_on((), 1.0, merge=False)

    def make(self, chunk: Chunk) -> list[Made | Missed]:
        """Make the images of a chunk that are missing; those that fail do not end the others."""
        try:
            self._put_on(*chunk.adapter, merge=chunk.merge)
        except Exception as error:
            return [
                Missed(item.id, sentence_of(error)) for item in chunk.items if _is_due(item, chunk)
            ]
        try:
            return [made for made in self._paint(chunk.items) if made.id in chunk.missing]
        except Exception as error:
            if len(chunk.items) == 1:
                return [Missed(chunk.items[0].id, sentence_of(error))]
        return [self._paint_alone(item) for item in chunk.items if _is_due(item, chunk)]

    def remake(self, item: Item, *, size: int, position: int, merge: bool) -> Made:
        """One image in its place among `size`, filled up with itself: the kernels round likewise.

        Raises:
            UserError: it cannot be made.
        """
        self._put_on(item.row.adapter, item.row.strength, merge=merge)
        return self._paint((item,) * size)[position]

    def _paint_alone(self, item: Item) -> Made | Missed:
        """One image of a chunk in which something went wrong."""
        try:
            return self._paint((item,))[0]
        except Exception as error:
            return Missed(item.id, sentence_of(error))

    def _paint(self, items: Sequence[Item]) -> list[Made]:
        begun = time.monotonic()
        request = _request(items).resolved(self.base)
        steering = self._steering(items, request)
        images = generate(self.base, request, steering=steering)
        seconds = (time.monotonic() - begun) / len(items)
        return [
            Made(
                item.id,
                image,
                self._recipe(item, number, request),
                seconds,
                _control_images(image, steering, number) if steering else {},
            )
            for number, (item, image) in enumerate(zip(items, images, strict=True))
        ]

    def _put_on(self, adapter: tuple[str, ...], strength: float, *, merge: bool) -> None:
        """Exchange the adapter on the base, unless it is there already."""
        if self._on_base == (adapter, strength, merge):
            return
        if self.adapter_set is not None:
            self.adapter_set.detach()
            self.adapter_set = None
            release_freed()
        self._on_base = ((), 1.0, False)
        options = self.options.model_copy(update={"strength": strength, "merge": merge})
        self.adapter_set = options.attach(self.base, [Path(folder) for folder in adapter])
        self._on_base = (adapter, strength, merge)

    def _steering(self, items: Sequence[Item], request: GenerateRequest) -> Steering | None:
        row = items[0].row
        given = self.control.model_dump(
            include={"condition_type", "condition_model", "condition_setting"}
            if row.condition_from
            else {"condition_type"}
            if row.condition
            else set()
        )
        for name in ("condition", "condition_from"):
            if getattr(row, name):
                given[name] = tuple(getattr(item.row, name) for item in items)
        if row.condition or row.condition_from:
            given |= row.model_dump(include={"control_strength", "control_start", "control_end"})
        return ControlOptions(**given).steering(self.adapter_set, request, on_note=self._note)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _recipe(self, item: Item, position: int, request: GenerateRequest) -> ImageRecipe:
        row, parts = item.row, self.adapter_set
        control = parts.control if parts else None
        own = type(self.base.scheduler).__name__
        control_images = bool(row.condition or row.condition_from)
        return ImageRecipe(
            prompt=row.prompt,
            negative_prompt=row.negative_prompt,
            seed=row.seed,
            num_inference_steps=request.num_inference_steps or 0,
            guidance_scale=request.guidance_scale or 0.0,
            width=request.width or 0,
            height=request.height or 0,
            scheduler=scheduler_class(self.base.objective, row.sampler) if row.sampler else own,
            sampler=sampler_title(row.sampler, self.base.scheduler),
            base=self.base.name,
            base_sha256=self.base.fingerprint(),
            adapter=" + ".join(row.adapter),
            adapter_sha256=" + ".join(self._hashes.adapter(folder) for folder in row.adapter),
            method=parts.method if parts else "",
            strength=row.strength,
            merged=self._on_base[2],
            init_image=row.init_image or "",
            mask=row.mask or "",
            denoise=row.denoise,
            condition=row.condition or "",
            condition_from=row.condition_from or "",
            condition_model=self.control.condition_model or "",
            condition_type=control.condition.name if control and control_images else "",
            condition_setting=" ".join(self.control.condition_setting),
            control_strength=row.control_strength,
            control_start=row.control_start,
            control_end=row.control_end,
            id=item.id,
            dtype=self.card.dtype,
            device=device_name(self.base.device),
            threads=torch.get_num_threads(),
            batch_size=len(request.prompts),
            batch_position=position,
            versions=self.card.versions,
        )

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        """Try batch sizes up to `most` on images like the first of `items`, and merging.

        Raises:
            UserError: their adapter cannot be used.
        """
        row, request = items[0].row, _request(items[:1]).resolved(self.base)
        size = (request.height or 0, request.width or 0)
        steps = request.num_inference_steps or 1
        sample = TimedImages(row.prompt, size, steps, request.guided)
        self._put_on(row.adapter, row.strength, merge=False)
        best, times, reason = best_batch_size(self.base, sample, most=most)
        tried = ", ".join(f"{n} at once {t * steps:.3g} s" for n, t in times.items())
        saves = seconds = 0.0
        if row.adapter and self.adapter_set and self.adapter_set.adapters:
            begun = time.monotonic()
            self._put_on(row.adapter, row.strength, merge=True)
            seconds = time.monotonic() - begun
            saves = (times[best] - step_seconds(self.base, sample, best) / best) * steps
        return Measurement(
            best,
            sample.pixels,
            times[best] * steps,
            merge_seconds=seconds,
            merge_saves=saves,
            why=f"of {tried} an image; {reason}",
        )


def _is_due(item: Item, chunk: Chunk) -> bool:
    return item.id in chunk.missing


def _request(items: Sequence[Item]) -> GenerateRequest:
    """What one batch of alike rows asks of the base."""
    row = items[0].row
    starts = [open_image(Path(item.row.init_image)) for item in items if item.row.init_image]
    masks = [open_control_image(Path(item.row.mask)) for item in items if item.row.mask]
    return GenerateRequest(
        tuple(item.row.prompt for item in items),
        tuple(item.row.seed for item in items),
        negative_prompt=row.negative_prompt,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        width=row.width,
        height=row.height,
        batch_size=len(items),
        sampler=row.sampler,
        init_images=tuple(starts),
        masks=tuple(masks),
        denoise=row.denoise or 1.0,
    )


def _control_images(image: Image.Image, steering: Steering, number: int) -> dict[str, Image.Image]:
    used = steering.control_images[number]
    return {"_map": used, "_overlay": overlay(image, used)}


def sentence_of(error: BaseException) -> str:
    """Why an image could not be made."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "The memory ran out. Use a smaller --batch_size, fewer pixels or --dtype fp16."
    return f"{type(error).__name__}: {first_line(error)}."

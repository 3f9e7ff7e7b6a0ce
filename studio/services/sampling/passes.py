"""Makes the images of a plan: one pass per set of weights, the same prompts and seeds in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from PIL import Image

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.blend import load_blend
from orthodiff.components.compose import load_all
from orthodiff.control import Steering, overlay
from orthodiff.errors import UserError
from orthodiff.io.images import open_control_image
from orthodiff.io.png_metadata import ImageRecipe, save_png
from orthodiff.models import Base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.schedulers import sampler_title

from .plan import Album, ImagePlan, MadeImage, Pass

OnStep = Callable[[int, int], None]


class Listener(Protocol):
    """Hears of every step, and may end the work by raising."""

    def start(self, total: int) -> None: ...
    def __call__(self, done: int, total: int) -> None: ...


def make_images(base: Base, plan: ImagePlan, folder: Path, listener: Listener) -> Album:
    """Write the images and their album into the job's folder; each image carries its recipe.

    Raises:
        UserError: an adapter or a control image cannot be used with this base.
    """
    album = Album()
    request = _request(plan).resolved(base)
    steps = request.num_inference_steps or 1
    per_pass = math.ceil(len(request.prompts) / request.batch_size) * steps
    total = per_pass * len(plan.passes)
    listener.start(total)
    for number, one in enumerate(plan.passes):

        def on_step(done: int, of_pass: int, before: int = number * per_pass) -> None:
            listener(before + done, total)

        with _adapted(base, one) as adapter_set:
            steering = _steering(plan, one, adapter_set, request, folder)
            images = generate(base, request, steering=steering, on_step=on_step)
            _write(images, plan, one, number, request, adapter_set, album, folder, base)
        album.write(folder)
    return album


def _request(plan: ImagePlan) -> GenerateRequest:
    """Every prompt for every control image, with every seed."""
    prompts = [prompt for _ in range(max(len(plan.maps), 1)) for prompt in plan.prompts]
    return GenerateRequest(
        prompts=tuple(prompt for prompt in prompts for _ in plan.seeds),
        seeds=plan.seeds * len(prompts),
        negative_prompt=plan.negative_prompt,
        num_inference_steps=plan.num_inference_steps,
        guidance_scale=plan.guidance_scale,
        width=plan.width,
        height=plan.height,
        sampler=plan.sampler,
    )


@contextmanager
def _adapted(base: Base, one: Pass) -> Iterator[AdapterSet | None]:
    """The base with the adapters of a pass; as it was afterwards."""
    if not one.adapters:
        yield None
        return
    try:
        adapter_set = _load(base, one)
    except UserError as error:
        raise UserError(_named(str(error), one)) from error
    try:
        yield adapter_set
    finally:
        adapter_set.detach()


def _load(base: Base, one: Pass) -> AdapterSet:
    folders = [Path(adapter.folder) for adapter in one.adapters]
    strengths = [adapter.strength for adapter in one.adapters]
    if one.blend is None:
        return load_all(base, folders, strength=strengths)
    first, second = folders
    return load_blend(base, (first, second), one.blend, strength=(strengths[0], strengths[1]))


def _adapters(one: Pass) -> str:
    names = " + ".join(adapter.name for adapter in one.adapters)
    return names if one.blend is None else f"{names} (blend {one.blend:g})"


def _named(sentence: str, one: Pass) -> str:
    """A sentence about folders of the server, with the names that people gave instead."""
    for adapter in one.adapters:
        sentence = sentence.replace(adapter.folder, adapter.name)
    return sentence


def _steering(
    plan: ImagePlan, one: Pass, adapter_set: AdapterSet | None, request: GenerateRequest,
    folder: Path,
) -> Steering | None:  # fmt: skip
    """What steers a pass; None for one that no control image steers."""
    if not one.steered or not plan.maps:
        return None
    control = adapter_set.control if adapter_set else None
    if control is None:
        raise UserError("A control image was given, but the adapter does not follow any.")
    control_images = [open_control_image(folder / name) for name in plan.maps]
    of_each = len(request.prompts) // len(control_images)
    return Steering(
        control,
        [control_image for control_image in control_images for _ in range(of_each)],
        strength=plan.control_strength,
        start=plan.control_start,
        end=plan.control_end,
    )


def _write(
    images: Sequence[Image.Image],
    plan: ImagePlan,
    one: Pass,
    pass_number: int,
    request: GenerateRequest,
    adapter_set: AdapterSet | None,
    album: Album,
    folder: Path,
    base: Base,
) -> None:
    of_each = len(images) // max(len(plan.maps), 1)
    for place, image in enumerate(images):
        recipe = _recipe(plan, one, place, request, adapter_set, base)
        name = f"{pass_number:02d}-{place:03d}.png"
        save_png(image, folder / name, recipe)
        used = plan.maps[place // of_each] if one.steered and plan.maps else ""
        laid = ""
        if used:
            laid = f"{pass_number:02d}-{place:03d}-overlay.png"
            with Image.open(folder / used) as lines:
                overlay(image, lines).save(folder / laid)
        album.images.append(
            MadeImage(
                name,
                one.label,
                request.prompts[place],
                request.seeds[place],
                used,
                laid,
                one.column,
            )
        )


def _recipe(
    plan: ImagePlan,
    one: Pass,
    place: int,
    request: GenerateRequest,
    adapter_set: AdapterSet | None,
    base: Base,
) -> ImageRecipe:
    """How an image was made, in names that mean something elsewhere: no path of this computer."""
    control = adapter_set.control if adapter_set and one.steered else None
    return ImageRecipe(
        prompt=request.prompts[place],
        negative_prompt=request.negative_prompt,
        seed=request.seeds[place],
        num_inference_steps=request.num_inference_steps or 0,
        guidance_scale=request.guidance_scale or 0.0,
        width=request.width or 0,
        height=request.height or 0,
        scheduler=type(base.scheduler).__name__,
        sampler=sampler_title(plan.sampler, base.scheduler),
        base=plan.base_title,
        adapter=_adapters(one),
        method=adapter_set.method if adapter_set else "",
        strength=one.adapters[0].strength if one.adapters else 1.0,
        condition="control image" if control else "",
        condition_type=control.condition.name if control else "",
        control_strength=plan.control_strength,
        control_start=plan.control_start,
        control_end=plan.control_end,
    )

"""The sampling loop: embed, denoise, decode."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from orthodiff.control.guidance import Steering, unsteered
from orthodiff.errors import UserError
from orthodiff.models import Base, Conditioning
from orthodiff.ops.held import parameters_held
from orthodiff.sampling.decode import decode_latents
from orthodiff.sampling.request import GenerateRequest
from orthodiff.sampling.start import start_of
from orthodiff.schedulers import new_scheduler

OnStep = Callable[[int, int], None]
"""Called after each denoising step with (steps done, steps in all), over all batches."""


def generate(
    base: Base,
    request: GenerateRequest,
    *,
    steering: Steering | None = None,
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """Make the images of `request`, in order, steered by a control image each if there are any.

    Every image draws from its own generator, so it does not depend on its batch (up to the
    rounding of the matrix kernels, which differ with the batch's size).

    Raises:
        UserError: the request does not fit the base, or numbers became non-finite.
    """
    request = request.resolved(base)
    count, steps = len(request.prompts), request.num_inference_steps or 1
    batches = [
        slice(start, start + request.batch_size) for start in range(0, count, request.batch_size)
    ]
    images: list[Image.Image] = []
    training = base.denoiser.training
    base.denoiser.eval()
    try:
        with parameters_held():
            for number, batch in enumerate(batches):
                tick = _counter(on_step, before=number * steps, total=len(batches) * steps)
                images += decode_latents(base, _denoise(base, request, batch, steering, tick))
    finally:
        base.denoiser.train(training)
    return images


@torch.no_grad()
def _denoise(
    base: Base,
    request: GenerateRequest,
    batch: slice,
    steering: Steering | None,
    tick: Callable[[int], None],
) -> Tensor:
    """Sample the latents `(B, C, h, w)` of one batch with classifier-free guidance."""
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds[batch]]
    objective, size = base.objective, (request.height or 0, request.width or 0)
    scheduler = new_scheduler(base, request.num_inference_steps or 1, size, request.sampler)
    with base.lending.stage():
        start = start_of(base, request, batch, scheduler, generators)
        conditioning = _conditioning(base, request, batch)
    latents, count = start.latents, len(start.timesteps)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"generator": generators} if takes_generator else {}
    steered = steering.over(batch) if steering else unsteered
    with base.denoising():
        for number, timestep in enumerate(start.timesteps):
            noisy = torch.cat([latents] * (1 + request.guided))
            noisy = objective.scale_input(scheduler, noisy, timestep)
            with steered(number, count):
                output = base.predict(noisy, timestep, conditioning)
            output = _guide(output, request)
            latents = scheduler.step(output, timestep, latents, **options).prev_sample
            latents = start.after_step(latents, number)
            _check_finite(latents, step=number + 1, count=count)
            tick((number + 1) * (request.num_inference_steps or 1) // count)
    return latents


def _conditioning(base: Base, request: GenerateRequest, batch: slice) -> Conditioning:
    """What steers a batch; with guidance, after the same number that it leads away from."""
    size = (request.height or 0, request.width or 0)
    towards = Conditioning.join([base.embed(prompt) for prompt in request.prompts[batch]])
    if not request.guided:
        return towards.sized(size)
    negative = base.negative_embeds(request.negative_prompt).expand(len(towards))
    return Conditioning.join([negative.sized(size), towards.sized(size)])


def _guide(output: Tensor, request: GenerateRequest) -> Tensor:
    """Classifier-free guidance (arXiv:2207.12598)."""
    if not request.guided:
        return output
    without, towards = output.chunk(2)
    return without + (request.guidance_scale or 0.0) * (towards - without)


def _check_finite(latents: Tensor, *, step: int, count: int) -> None:
    """Refuse latents that would be decoded into a black image.

    Raises:
        UserError: a number is not finite, naming precision and step.
    """
    if torch.isfinite(latents).all():
        return
    dtype = str(latents.dtype).removeprefix("torch.")
    raise UserError(
        f"The latents became non-finite in {dtype} at step {step} of {count}, so the image would "
        "be black. Use --dtype fp32 (or bf16), a lower guidance scale or strength; if that does "
        "not help, the weights of the base or of the adapter are damaged."
    )


def _counter(on_step: OnStep | None, *, before: int, total: int) -> Callable[[int], None]:
    def tick(done: int) -> None:
        if on_step is not None:
            on_step(before + done, total)

    return tick

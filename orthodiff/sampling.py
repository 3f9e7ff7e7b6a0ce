"""From a request to pictures: noise, embed, denoise, decode. Knows no files and no adapters.

Whatever adapter is attached to (or merged into) the base's UNet takes part by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from orthodiff.control.guidance import Steering, unsteered
from orthodiff.errors import UserError
from orthodiff.models import Base, Conditioning

OnStep = Callable[[int, int], None]
"""Called after each denoising step with (steps done, steps in all), over all batches."""


@dataclass(frozen=True)
class GenerateRequest:
    """One picture per pair of `prompts` and `seeds`; what is None is the base's advice.

    `width` and `height` are in pixels. Guidance 1 switches the negative prompt off.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.seeds):
            raise UserError(
                f"{len(self.prompts)} prompts came with {len(self.seeds)} seeds. Give as many "
                "seeds as prompts, and at least one."
            )
        for name in ("num_inference_steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"`{name}` is {value}. Use 1 or more.")

    @classmethod
    def grid(
        cls, prompts: Sequence[str], *, num_images: int = 1, seed: int = 0, **settings: Any
    ) -> GenerateRequest:
        """`num_images` pictures of each prompt in turn, with seeds `seed`, `seed + 1`, ..."""
        seeds = tuple(range(seed, seed + num_images)) * len(prompts)
        repeated = tuple(prompt for prompt in prompts for _ in range(num_images))
        return cls(prompts=repeated, seeds=seeds, **settings)

    @classmethod
    def repeat(
        cls, prompt: str, *, num_images: int = 1, seed: int = 0, **settings: Any
    ) -> GenerateRequest:
        """`grid` of a single prompt."""
        return cls.grid((prompt,), num_images=num_images, seed=seed, **settings)

    def resolved(self, base: Base) -> GenerateRequest:
        """The same request with every open choice filled in from the base's advice.

        Raises:
            UserError: a side is not a multiple of the autoencoder's factor, or there are more
                steps than the base was trained with.
        """
        advice = base.recommended
        steps = self.num_inference_steps or advice.num_inference_steps
        most = base.scheduler.config.num_train_timesteps
        if steps > most:
            raise UserError(
                f"`num_inference_steps` is {steps}, but this base knows {most}. Use at most {most}."
            )
        sides = {
            "width": self.width or advice.resolution,
            "height": self.height or advice.resolution,
        }
        for name, side in sides.items():
            if side < base.factor or side % base.factor:
                raise UserError(
                    f"`{name}` is {side}, but this base makes pictures in multiples of "
                    f"{base.factor}. Use {max(side // base.factor, 1) * base.factor}."
                )
        guidance = advice.guidance_scale if self.guidance_scale is None else self.guidance_scale
        return replace(
            self,
            num_inference_steps=steps,
            guidance_scale=guidance,
            width=sides["width"],
            height=sides["height"],
        )


def generate(
    base: Base,
    request: GenerateRequest,
    *,
    steering: Steering | None = None,
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """Make the pictures of `request`, in order, steered by a map each if `steering` has them.

    Every picture draws from its own generator, so it does not depend on its batch (up to the
    rounding of the matrix kernels, which differ with the batch's size).
    """
    request = request.resolved(base)
    count, steps = len(request.prompts), request.num_inference_steps or 1
    batches = [
        slice(start, start + request.batch_size) for start in range(0, count, request.batch_size)
    ]
    pictures: list[Image.Image] = []
    training = base.denoiser.training
    base.denoiser.eval()
    try:
        for number, batch in enumerate(batches):
            tick = _counter(on_step, before=number * steps, total=len(batches) * steps)
            latents = _denoise(base, request, batch, steering, tick)
            pictures += [_to_image(base.decode(latent)) for latent in latents]
    finally:
        base.denoiser.train(training)
    return pictures


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
    size, objective = (request.height or 0, request.width or 0), base.objective
    scheduler = base.new_scheduler(request.num_inference_steps or 1, size=size)
    latents = _noise(base, request, generators) * objective.initial_noise_scale(scheduler)
    wanted = Conditioning.join([base.embed(prompt) for prompt in request.prompts[batch]]).sized(
        size
    )
    guidance = request.guidance_scale or 0.0
    guided = guidance != 1.0
    if guided:
        negative_embeds = (
            base.negative_embeds(request.negative_prompt).expand(len(wanted)).sized(size)
        )
        wanted = Conditioning.join([negative_embeds, wanted])
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"generator": generators} if takes_generator else {}
    steered = steering.over(batch) if steering else unsteered
    for number, timestep in enumerate(scheduler.timesteps, start=1):
        twice = torch.cat([latents] * (1 + guided))
        noisy = objective.scale_input(scheduler, twice, timestep)
        with steered(number - 1, len(scheduler.timesteps)):
            output = base.predict(noisy, timestep, wanted)
        if guided:
            without, towards = output.chunk(2)
            output = without + guidance * (towards - without)
        latents = scheduler.step(output, timestep, latents, **options).prev_sample
        tick(number * (request.num_inference_steps or 1) // len(scheduler.timesteps))
    return latents


def _noise(base: Base, request: GenerateRequest, generators: list[torch.Generator]) -> Tensor:
    """Unit noise `(B, C, h, w)`, drawn on the CPU: the same picture on every device."""
    height, width = request.height or 0, request.width or 0
    shape = (base.latent_channels, height // base.factor, width // base.factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(base.device, base.dtype)


def _to_image(picture: Tensor) -> Image.Image:
    """Picture `(3, H, W)` in [-1, 1] -> 8-bit RGB."""
    levels = ((picture.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _counter(on_step: OnStep | None, *, before: int, total: int) -> Callable[[int], None]:
    def tick(done: int) -> None:
        if on_step is not None:
            on_step(before + done, total)

    return tick

"""Where sampling starts: from noise, from an image (img2img), or from both under a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.io.images import fit_size
from orthodiff.models import Base
from orthodiff.sampling.request import GenerateRequest

AfterStep = Callable[[Tensor, int], Tensor]
"""Latents after the step of that number (from 0) -> what the next step takes."""


@dataclass(frozen=True)
class Start:
    """First latents `(B, C, h, w)`, the timesteps that are left, and a correction after each."""

    latents: Tensor
    timesteps: Tensor
    after_step: AfterStep


def start_of(
    base: Base,
    request: GenerateRequest,
    batch: slice,
    scheduler: Any,
    generators: Sequence[torch.Generator],
) -> Start:
    """The start of some images of a resolved request, drawn as diffusers' pipelines draw it.

    Raises:
        UserError: `denoise` leaves no step.
    """
    scale = base.objective.initial_noise_scale(scheduler)
    if not request.init_images:
        noise = _noise(base, request, generators) * scale
        return Start(noise, scheduler.timesteps, lambda latents, step: latents)
    timesteps = _remaining(request, scheduler)
    size = (request.width or 0, request.height or 0)
    images = _encode(base, [fit_size(i, size) for i in request.init_images[batch]], generators)
    noise = _noise(base, request, generators)
    noisy = _noised(scheduler, images, noise, timesteps[:1])
    if not request.masks:
        return Start(noisy, timesteps, lambda latents, step: latents)
    # diffusers' pipeline now encodes the masked image too, which nothing here reads: its draws are
    # taken as well, so that samplers that add noise at every step add the same
    _noise(base, request, generators)
    painted = _masks([fit_size(m, size) for m in request.masks[batch]], noise)
    first = noise * scale if request.denoise == 1 else noisy

    def keep_unmasked(latents: Tensor, step: int) -> Tensor:
        unmasked = images
        if step + 1 < len(timesteps):
            unmasked = _noised(scheduler, images, noise, timesteps[step + 1 : step + 2])
        return (1 - painted) * unmasked + painted * latents

    return Start(first, timesteps, keep_unmasked)


def _remaining(request: GenerateRequest, scheduler: Any) -> Tensor:
    """The timesteps that the share `denoise` leaves, as in diffusers' img2img pipeline."""
    steps = request.num_inference_steps or 1
    skipped = steps - min(int(steps * request.denoise), steps)
    if skipped >= steps:
        raise UserError(
            f"`denoise` is {request.denoise:g}, which leaves no whole step of {steps}. "
            "Use a larger share, or more steps."
        )
    order = getattr(scheduler, "order", 1)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped * order)
    return scheduler.timesteps[skipped * order :]


def _noised(scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Latents at the noise level of `timestep` `(1,)`, in the scheduler's own scale."""
    timesteps = timestep.repeat(len(noise))
    if hasattr(scheduler, "scale_noise"):  # flow matching
        return scheduler.scale_noise(latents, timesteps, noise)
    return scheduler.add_noise(latents, noise, timesteps)


def _noise(base: Base, request: GenerateRequest, generators: Sequence[torch.Generator]) -> Tensor:
    """Unit noise `(B, C, h, w)`, drawn on the CPU: the same image on every device."""
    height, width = request.height or 0, request.width or 0
    shape = (base.latent_channels, height // base.factor, width // base.factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(base.device, base.dtype)


def _encode(
    base: Base, images: Sequence[Image.Image], generators: Sequence[torch.Generator]
) -> Tensor:
    """Latents `(B, C, h, w)` of images, drawn from the autoencoder's posterior."""
    drawn = []
    for image, generator in zip(images, generators, strict=True):
        pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
        mean, deviation = base.encode(pixels.permute(2, 0, 1) / 127.5 - 1)
        noise = torch.randn(mean.shape, generator=generator)
        drawn.append(mean + deviation * noise.to(mean))
    return torch.stack(drawn).to(base.device, base.dtype)


def _masks(masks: Sequence[Image.Image], like: Tensor) -> Tensor:
    """Masks `(B, 1, h, w)` of 0 and 1 in latents' size, as diffusers makes them: nearest pixels."""
    levels = torch.stack([torch.from_numpy(np.array(m.convert("L"))) for m in masks])
    bright = (levels[:, None].float() / 255 >= 0.5).float()
    return torch.nn.functional.interpolate(bright, size=like.shape[-2:]).to(like)

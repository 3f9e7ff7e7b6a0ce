"""What images are asked for: a value that is checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from orthodiff.errors import UserError
from orthodiff.models import Base, Recommended
from orthodiff.schedulers import sampler_name


@dataclass(frozen=True)
class Limits:
    """What a base asks of a request, and what it advises: `factor` is pixels per latent."""

    recommended: Recommended
    most_steps: int
    factor: int

    @classmethod
    def of(cls, base: Base) -> Limits:
        return cls(base.recommended, base.scheduler.config.num_train_timesteps, base.factor)


@dataclass(frozen=True)
class GenerateRequest:
    """One image per pair of `prompts` and `seeds`; what is None is the base's advice.

    `width` and `height` are in pixels. Guidance of at most 1 switches guidance off, and with it the
    negative prompt, as in diffusers. With `init_images` (one per prompt) sampling starts from them
    after the share `1 - denoise` of the steps; `masks` ("L", white is painted anew) make it
    inpainting.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    batch_size: int = 4
    sampler: str | None = None
    init_images: tuple[Image.Image, ...] = ()
    masks: tuple[Image.Image, ...] = ()
    denoise: float = 1.0

    def __post_init__(self) -> None:
        count = len(self.prompts)
        if not self.prompts or count != len(self.seeds):
            raise UserError(
                f"{count} prompts came with {len(self.seeds)} seeds. Give as many "
                "seeds as prompts, and at least one."
            )
        for name in ("num_inference_steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"`{name}` is {value}. Use 1 or more.")
        if self.guidance_scale is not None and not math.isfinite(self.guidance_scale):
            raise UserError(
                f"`guidance_scale` is {self.guidance_scale}, which is not a finite number. "
                "Use for example 7.5."
            )
        if self.sampler is not None:
            sampler_name(self.sampler)
        self._check_start(count)

    def _check_start(self, count: int) -> None:
        for name in ("init_images", "masks"):
            if getattr(self, name) and len(getattr(self, name)) != count:
                raise UserError(f"{len(getattr(self, name))} `{name}` came with {count} prompts.")
        if self.masks and not self.init_images:
            raise UserError("A mask was given, but no image to inpaint. Add `init_image`.")
        if not 0 < self.denoise <= 1:
            raise UserError(
                f"`denoise` is {self.denoise}, but it must be above 0 and at most 1. Use for "
                "example 0.6."
            )

    @classmethod
    def grid(
        cls, prompts: Sequence[str], *, num_images: int = 1, seed: int = 0, **settings: Any
    ) -> GenerateRequest:
        """`num_images` images of each prompt in turn, with seeds `seed`, `seed + 1`, ..."""
        seeds = tuple(range(seed, seed + num_images)) * len(prompts)
        repeated = tuple(prompt for prompt in prompts for _ in range(num_images))
        return cls(prompts=repeated, seeds=seeds, **settings)

    @classmethod
    def repeat(
        cls, prompt: str, *, num_images: int = 1, seed: int = 0, **settings: Any
    ) -> GenerateRequest:
        """`grid` of a single prompt."""
        return cls.grid((prompt,), num_images=num_images, seed=seed, **settings)

    @property
    def guided(self) -> bool:
        """Whether a resolved request uses classifier-free guidance."""
        return (self.guidance_scale or 0.0) > 1.0

    def resolved(self, base: Base) -> GenerateRequest:
        """The same request with every open choice filled in from the base's advice; see `within`.

        Raises:
            UserError: it does not fit the base.
        """
        return self.within(Limits.of(base))

    def within(self, limits: Limits) -> GenerateRequest:
        """The same request with every open choice filled in.

        A negative prompt that guidance of at most 1 leaves without effect is dropped.

        Raises:
            UserError: a side is not a multiple of the autoencoder's factor, or there are more
                steps than the base was trained with.
        """
        advice, most = limits.recommended, limits.most_steps
        steps = self.num_inference_steps or advice.num_inference_steps
        if steps > most:
            raise UserError(
                f"`num_inference_steps` is {steps}, but this base knows {most}. Use at most {most}."
            )
        guidance = advice.guidance_scale if self.guidance_scale is None else self.guidance_scale
        return replace(
            self,
            num_inference_steps=steps,
            guidance_scale=guidance,
            negative_prompt=self.negative_prompt if guidance > 1 else "",
            width=_side("width", self.width or advice.resolution, limits.factor),
            height=_side("height", self.height or advice.resolution, limits.factor),
        )


def _side(name: str, side: int, factor: int) -> int:
    if side < factor or side % factor:
        raise UserError(
            f"`{name}` is {side}, but this base makes images in multiples of {factor}. "
            f"Use {max(side // factor, 1) * factor}."
        )
    return side

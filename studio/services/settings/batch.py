"""The settings of a batch: thousands of images as a job."""

from __future__ import annotations

from .base import Settings, setting
from .images import AdapterUse

MOST_IMAGES, MOST_PROMPTS = 20_000, 2000


class BatchSettings(Settings):
    """Make images of many prompts, with each adapter and each seed."""

    base: str | None = setting(None, "Base model", "The adapters' own by default")
    adapters: tuple[AdapterUse, ...] = setting((), "Adapters", max_length=8)
    prompts: tuple[str, ...] = setting(
        ..., "Prompts", "One per line; {trigger} stands for the trigger word, {a|b} for both",
        min_length=1, max_length=MOST_PROMPTS,
    )  # fmt: skip
    negative_prompt: str = setting(
        "", "Negative prompt", "What should not be seen", max_length=1000
    )
    num_images: int = setting(1, "Seeds each", "Images per prompt and adapter", ge=1, le=100)
    seed: int = setting(0, "First seed", "The next image has the next one", ge=0, lt=2**32)
    num_inference_steps: int | None = setting(
        None, "Steps", "More take longer", ge=1, le=200, automatic="by the base"
    )
    guidance_scale: float | None = setting(
        None, "Guidance", "Higher: closer to the words", ge=0, le=30, automatic="by the base"
    )
    sampler: str = setting("", "Sampler", "Empty: the base's own", max_length=40)

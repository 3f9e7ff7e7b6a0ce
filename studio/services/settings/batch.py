"""The settings of a batch: thousands of images as a job."""

from __future__ import annotations

from .base import JobSettings, job_setting
from .images import AdapterUse

MOST_IMAGES, MOST_PROMPTS = 20_000, 2000


class BatchJobSettings(JobSettings):
    """Make images of many prompts, with each adapter and each seed."""

    base: str | None = job_setting(None, "Base model", "The adapters' own by default")
    adapters: tuple[AdapterUse, ...] = job_setting((), "Adapters", max_length=8)
    prompts: tuple[str, ...] = job_setting(
        ..., "Prompts", "One per line; {trigger} stands for the trigger word, {a|b} for both",
        min_length=1, max_length=MOST_PROMPTS,
    )  # fmt: skip
    negative_prompt: str = job_setting(
        "", "Negative prompt", "What should not be seen", max_length=1000
    )
    num_images: int = job_setting(1, "Seeds each", "Images per prompt and adapter", ge=1, le=100)
    seed: int = job_setting(0, "First seed", "The next image has the next one", ge=0, lt=2**32)
    num_inference_steps: int | None = job_setting(
        None, "Steps", "More take longer", ge=1, le=200, automatic="by the base"
    )
    guidance_scale: float | None = job_setting(
        None, "Guidance", "Higher: closer to the words", ge=0, le=30, automatic="by the base"
    )
    sampler: str = job_setting("", "Sampler", "Empty: the base's own", max_length=40)

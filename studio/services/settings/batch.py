"""The settings of a batch: thousands of images as a job."""

from __future__ import annotations

from typing import Any

from .base import JobSettings, job_setting
from .images import AdapterUse

MOST_IMAGES, MOST_PROMPTS = 20_000, 2000
FIELDS = (
    "prompt", "negative_prompt", "seed", "num_inference_steps", "guidance_scale", "width", "height",
    "sampler", "strength",
)  # fmt: skip
"""What a row of a prompt file may say on the page: nothing that names a file."""


class BatchJobSettings(JobSettings):
    """Make images of many prompts, with each adapter and each seed."""

    base: str | None = job_setting(None, "Base model", "The adapters' own by default")
    adapters: tuple[AdapterUse, ...] = job_setting((), "Adapters", max_length=8)
    prompts: tuple[str, ...] = job_setting(
        (), "Prompts", "One per line; {trigger} stands for the trigger word, {a|b} for both",
        max_length=MOST_PROMPTS,
    )  # fmt: skip
    rows: tuple[dict[str, Any], ...] = job_setting(
        (), "Rows of a prompt file", "Instead of prompts", max_length=MOST_PROMPTS
    )
    lists: dict[str, tuple[str, ...]] = job_setting({}, "Lists of a prompt file", "For $name")
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

"""The settings of an evaluation."""

from __future__ import annotations

from .base import JobSettings, job_setting


class EvaluateSettings(JobSettings):
    """Compare base and adapted over many prompts, with scores."""

    adapter: str = job_setting(..., "Adapter", "A training on a subject", max_length=120)
    checkpoint: str = job_setting(
        "recommended", "Checkpoint", pattern=r"recommended|last|[0-9]{1,7}"
    )
    num_images: int = job_setting(2, "Images each", "Per prompt and model", ge=1, le=8)

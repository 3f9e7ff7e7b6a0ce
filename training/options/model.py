"""Which base model."""

from __future__ import annotations

from pydantic import Field

from training.options.base import Options


class ModelOptions(Options):
    pretrained_model_name_or_path: str = Field(
        description="base model: a diffusers-format folder or a hub id"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")

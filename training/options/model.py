"""Which base model."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field, field_validator

from orthodiff.io.assets import shipped

from .base import Options


class ModelOptions(Options):
    pretrained_model_name_or_path: str = Field(
        description="base model: folder in diffusers format, hub id, .safetensors file, or pocket"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    tokenizer_name: str | None = Field(
        None, description="folder or hub id of another CLIP tokenizer [the base's own]"
    )
    tokenizer_max_length: int | None = Field(
        None, ge=2, description="tokens that a prompt is padded to and cut at [the tokenizer's own]"
    )
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="tokens of a prompt that are read, in chunks [one chunk, often 75]"
    )
    text_encoder_use_attention_mask: bool = Field(
        False, description="let the text encoders ignore the padding [as the base does]"
    )

    @field_validator("pretrained_model_name_or_path", mode="before")
    @classmethod
    def _home(cls, value: Any) -> Any:
        return os.path.expanduser(value) if isinstance(value, str) else value

    def in_effect(self) -> dict[str, Any]:
        """A local base is the same however its path is written."""
        path = shipped(self.pretrained_model_name_or_path)
        base = str(path.resolve()) if path.exists() else self.pretrained_model_name_or_path
        return {**super().in_effect(), "pretrained_model_name_or_path": base}

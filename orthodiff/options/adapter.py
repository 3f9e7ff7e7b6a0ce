"""Options that `export` and `merge` share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SavedAdapterOptions(BaseModel):
    """Which adapter on which base, at which strength and precision."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    adapter: Path = Field(description="adapter folder")
    pretrained_model_name_or_path: str | None = Field(
        None, description="base model [the one the adapter was trained on]"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    strength: float = Field(1.0, description="how far the weights are turned")
    dtype: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="precision of the file: fp32, fp16 or bf16"
    )
    overwrite: bool = Field(False, description="replace what is there already")

"""What trades memory, speed and precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.options.base import Harmless, Options


class MemoryOptions(Options):
    gradient_checkpointing: Annotated[bool, Harmless] = Field(
        False, description="less memory, about a quarter more time per step"
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = Field(
        None, description="precision of the base and the activations [accelerate's setting]"
    )
    allow_tf32: Annotated[bool, Harmless] = Field(
        False, description="TF32 matrix products on Ampere and newer GPUs"
    )

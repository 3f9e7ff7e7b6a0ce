"""What trades memory, speed and precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from training.options.base import Harmless, Options, is_on


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
    attention: Annotated[Literal["sdpa", "xformers", "flash", "math"], Harmless] = Field(
        "sdpa", description="sdpa (torch chooses), flash, math, or xformers (an extra)"
    )
    enable_xformers_memory_efficient_attention: Annotated[bool, Harmless] = Field(
        False, description="the same as --attention xformers"
    )
    channels_last: Annotated[bool, Harmless] = Field(
        False, description="keep pictures channel by channel within a pixel: may be faster"
    )
    torch_compile: Annotated[bool, Harmless] = Field(
        False, description="compile the UNet: minutes at the start, faster steps on a GPU"
    )

    plan: Annotated[bool, Harmless] = Field(
        False,
        exclude=True,
        description="only say what the run would take, from three steps of it; nothing is kept",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_attention(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`enable_xformers_memory_efficient_attention` names an attention too."""
        if not is_on(values.get("enable_xformers_memory_efficient_attention")):
            return values
        if values.get("attention", "xformers") != "xformers":
            raise ValueError(
                "`enable_xformers_memory_efficient_attention` and `attention` "
                f"{values['attention']} contradict each other. Leave one of them out."
            )
        return {**values, "attention": "xformers"}

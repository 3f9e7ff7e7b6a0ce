"""What trades memory, speed and precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from .alias import Alias
from .base import NO_IS_A_WORD, Harmless, Options


class MemoryOptions(Options):
    gradient_checkpointing: Annotated[bool, Harmless] = Field(
        False, description="less memory, about a quarter more time per step"
    )
    gradient_checkpointing_interval: Annotated[int, Harmless] = Field(
        1,
        ge=1,
        description="compute every n-th block again, and keep what the others need: 2 costs less "
        "time and saves less memory than 1",
    )
    quantize_base: Literal["8bit", "4bit"] | None = Field(
        None,
        description="pack the UNet's linear layers into few bits (an extra); the adapter stays "
        "in float32",
    )
    mixed_precision: Annotated[Literal["no", "fp16", "bf16"] | None, NO_IS_A_WORD] = Field(
        None,
        description="precision of the base and the activations [accelerate's setting, else on a "
        "GPU bf16 where it has it, or fp16]",
    )
    allow_tf32: Annotated[bool, Harmless] = Field(
        False, description="TF32 matrix products on Ampere and newer GPUs"
    )
    attention: Annotated[Literal["sdpa", "xformers", "flash", "math"], Harmless] = Field(
        "sdpa", description="sdpa (torch chooses), flash, math, or xformers (an extra)"
    )
    enable_xformers_memory_efficient_attention: Annotated[
        bool, Harmless, Alias("attention", on="xformers")
    ] = Field(False, exclude=True, description="the same as --attention xformers")
    channels_last: Annotated[bool, Harmless] = Field(
        False, description="keep images channel by channel within a pixel: may be faster"
    )
    torch_compile: Annotated[bool, Harmless] = Field(
        False, description="compile the UNet: minutes at the start, faster steps on a GPU"
    )
    compile_repeated_blocks: Annotated[bool, Harmless] = Field(
        False,
        description="with torch_compile: only the UNet's repeated blocks, so that compiling takes "
        "a fraction of the time",
    )
    replay: Annotated[bool, Harmless] = Field(
        True, description="on a CPU: run steps from a recording, faster and to the same bits"
    )

    plan: Annotated[bool, Harmless] = Field(
        False,
        exclude=True,
        description="only say what the run would take, from a few steps of it; nothing is kept",
    )

    @model_validator(mode="after")
    def _check_compiling(self) -> Self:
        if self.compile_repeated_blocks and not self.torch_compile:
            raise ValueError(
                "`compile_repeated_blocks` says what --torch_compile compiles, which is not given. "
                "Add it, or leave both out."
            )
        return self

    def notes(self) -> list[str]:
        idle = self.gradient_checkpointing_interval > 1 and not self.gradient_checkpointing
        note = "`gradient_checkpointing_interval` has no effect; add --gradient_checkpointing."
        return [*super().notes(), *([note] if idle else [])]

    def in_effect(self) -> dict[str, Any]:
        """Of accelerate's setting only the usual one; a run compares what it made of it besides."""
        return {**super().in_effect(), "mixed_precision": self.mixed_precision or "no"}

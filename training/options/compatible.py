"""Flags of diffusers' DreamBooth script that mean little here, or nothing: never silently."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from .base import Harmless, Options


class CompatibleOptions(Options):
    dataloader_num_workers: Annotated[int, Harmless] = Field(
        0, ge=0, description="diffusers' flag; no effect: no step loads images"
    )
    local_rank: Annotated[int, Harmless] = Field(
        -1, description="diffusers' flag; no effect: the launcher says it in the environment"
    )
    validation_images: Annotated[tuple[str, ...], Harmless] = Field(
        (), description="diffusers' flag; refused: no base here starts from an image"
    )
    class_labels_conditioning: Annotated[Literal["timesteps"] | None, Harmless] = Field(
        None, description="diffusers' flag; refused: no base here takes class labels"
    )

    @model_validator(mode="after")
    def _refuse_meaningless(self) -> Self:
        if self.validation_images:
            raise ValueError(
                "`validation_images` are for bases that start from an image, which are not "
                "supported. Leave the flag out."
            )
        if self.class_labels_conditioning:
            raise ValueError(
                "`class_labels_conditioning` is for bases with class labels (DeepFloyd IF's "
                "upscalers), which are not supported. Leave the flag out."
            )
        return self

    def notes(self) -> list[str]:
        reasons: dict[str, Any] = {}
        if self.dataloader_num_workers:
            reasons["dataloader_num_workers"] = "images are encoded once, before the first step"
        if self.local_rank >= 0:
            reasons["local_rank"] = "the launcher says it in the environment"
        notes = [f"`{name}` has no effect: {reason}." for name, reason in reasons.items()]
        return [*super().notes(), *notes]

"""What is made and measured on the way."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from training.options.base import Harmless, Options


class ValidationOptions(Options):
    validation_prompt: Annotated[tuple[str, ...], Harmless] = Field(
        (), description="prompt of the pictures made on the way; may be repeated"
    )
    num_validation_images: Annotated[int, Harmless] = Field(
        1, ge=1, description="pictures per validation prompt"
    )
    validation_steps: Annotated[int, Harmless] = Field(
        100, ge=1, description="make them at step 0 and every N steps"
    )

    @field_validator("validation_prompt", mode="before")
    @classmethod
    def _one_or_many_prompts(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

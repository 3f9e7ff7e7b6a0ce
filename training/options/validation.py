"""What is made and measured on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from .base import Harmless, Options


class ValidationOptions(Options):
    validation_prompt: Annotated[tuple[str, ...], Harmless] = Field(
        (), description="prompt of the images made on the way; may be repeated"
    )
    num_validation_images: Annotated[int, Harmless] = Field(
        1, ge=1, description="images per validation prompt"
    )
    validation_steps: Annotated[int, Harmless] = Field(
        100, ge=1, description="make and measure at step 0, every N steps, and at checkpoints"
    )
    validation_epochs: Annotated[int | None, Harmless] = Field(
        None, ge=1, description="every N passes over the images instead"
    )
    validation_data_dir: Annotated[Path | None, Harmless] = Field(
        None, description="folder of held-out images for the validation loss [the training's own]"
    )
    validation_samples: Annotated[int, Harmless] = Field(
        16, ge=0, description="(image, noise, timestep) triples of the validation loss; 0: none"
    )
    scorer: Annotated[str | None, Harmless] = Field(
        None,
        description="CLIP folder or hub id that scores the images, or none [the base's scorer/]",
    )

    @field_validator("validation_prompt", mode="before")
    @classmethod
    def _one_or_many_prompts(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

"""How pictures become training samples, whatever the task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from training.options.base import Harmless, Options


class DataOptions(Options):
    resolution: int | None = Field(
        None, ge=8, description="side of the square pictures in pixels [the base's own]"
    )
    center_crop: bool = Field(True, description="cut the middle square of each picture")
    cache_dir: Annotated[Path | None, Harmless] = Field(
        None, description="keep encoded and class pictures here [~/.cache/orthodiff]"
    )

    @model_validator(mode="after")
    def _check_crops(self) -> Self:
        if not self.center_crop:
            raise ValueError(
                "`center_crop` is off, but pictures are encoded once: there are no random crops. "
                "Leave the flag out, or crop the pictures beforehand."
            )
        return self

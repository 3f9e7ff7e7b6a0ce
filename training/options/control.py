"""The kind of control images, and the learning rate of the encoder that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from orthodiff.settings import parse_settings

from .alias import Alias
from .base import Harmless, Options

DEFAULT_HINT_LEARNING_RATE = 1e-3


class ControlTrainingOptions(Options):
    condition_type: str | None = Field(
        None, description="kind of the control images [what the data say, else canny]"
    )
    condition_setting: tuple[str, ...] = Field(
        (), description="setting of this kind, such as low=50 for canny; may be repeated"
    )
    condition_model: str | None = Field(
        None, description="folder of a transformers model that computes segmentation or depth"
    )
    hint_learning_rate: float | None = Field(
        None,
        gt=0,
        description=f"peak learning rate of the hint encoder [{DEFAULT_HINT_LEARNING_RATE:g}]",
    )
    validation_image: Annotated[tuple[Path, ...], Harmless] = Field(
        (), description="control image for each validation prompt, or one for all; may be repeated"
    )
    proportion_empty_prompts: Annotated[float, Harmless, Alias("caption_dropout_rate")] = Field(
        0.0, ge=0, le=1, exclude=True, description="the same as --caption_dropout_rate"
    )

    @field_validator("condition_setting", mode="before")
    @classmethod
    def _settings_as_written(cls, value: Any) -> Any:
        """YAML may hold `low: 50` for `low=50`."""
        if isinstance(value, Mapping):
            return tuple(f"{name}={setting}" for name, setting in value.items())
        return (value,) if isinstance(value, str) else value

    @field_validator("validation_image", mode="before")
    @classmethod
    def _one_or_many_images(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _check_condition_settings(self) -> Self:
        self.condition_settings()
        return self

    def condition_settings(self) -> dict[str, Any]:
        """The given settings of the control images by name."""
        return parse_settings(self.condition_setting)

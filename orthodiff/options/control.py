"""Options about control images, for every command that makes images, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import (
    Condition,
    Steering,
    compute,
    condition_of,
    ready,
)
from orthodiff.control.image import Fitted, Size
from orthodiff.errors import FileError, UserError
from orthodiff.io.images import open_control_image, open_image
from orthodiff.sampling import GenerateRequest
from orthodiff.settings import parse_settings

OnNote = Callable[[str], None]


class ControlOptions(BaseModel):
    """How control images steer the images."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    condition: tuple[Path, ...] = Field(
        (), description="control image that steers the images; may be repeated"
    )
    condition_from: tuple[Path, ...] = Field(
        (), description="image whose control image is computed; may be repeated"
    )
    condition_type: str | None = Field(
        None, description="kind of the control images [the adapter's]"
    )
    condition_setting: tuple[str, ...] = Field(
        (), description="setting of computed control images, such as low=50 for canny [as trained]"
    )
    condition_model: str | None = Field(
        None, description="folder of a transformers model that computes segmentation or depth"
    )
    control_strength: float = Field(
        1.0, ge=0, le=10, description="how much the control images count"
    )
    control_start: float = Field(
        0.0, ge=0, le=1, description="share of the steps before control images count"
    )
    control_end: float = Field(
        1.0, ge=0, le=1, description="share of the steps after which control images no longer count"
    )

    @model_validator(mode="after")
    def _check_idle(self) -> Self:
        """Refuse what says how control images steer where there is none."""
        for name, field in ControlOptions.model_fields.items():
            if not self.num_control_images and getattr(self, name) != field.default:
                raise ValueError(
                    f"`{name}` is given, but no control image. Add --condition CONTROL_IMAGE or "
                    "--condition_from IMAGE, or leave it out."
                )
        return self

    @property
    def num_control_images(self) -> int:
        """How many control images there are."""
        return len(self.condition) + len(self.condition_from)

    def steering(
        self, adapter_set: AdapterSet | None, request: GenerateRequest, *, on_note: OnNote
    ) -> Steering | None:
        """Control images in the size of a resolved request, each for as many images as it has.

        Raises:
            UserError: no adapter is steered by such control images, or one cannot be used.
        """
        control = adapter_set.control if adapter_set else None
        if not self.num_control_images:
            if control:
                name = control.condition.name
                on_note(f"Without a control image ({name}), nothing steers the images.")
            return None
        if control is None:
            raise UserError(
                "A control image was given, but no adapter that is steered by them. Train one with "
                "`python -m training control`, and give its folder with --adapter."
            )
        condition, computing = self.conditions(control.condition)
        size = (request.width or 0, request.height or 0)
        control_images = [
            _make(path, open_control_image(path), ready, size, condition, on_note)
            for path in self.condition
        ]
        control_images += [
            _make(path, open_image(path), compute, size, computing, on_note)
            for path in self.condition_from
        ]
        of_each = len(request.prompts) // len(control_images)
        steering = Steering(
            control,
            [given for given in control_images for _ in range(of_each)],
            strength=self.control_strength,
            start=self.control_start,
            end=self.control_end,
        )
        steps = request.num_inference_steps or 1
        if not any(steering.lasts(step, steps) for step in range(steps)):
            raise UserError(
                f"From {self.control_start:g} to {self.control_end:g} there is no whole step of "
                f"{steps}, so the control image would not count. Take a longer share, or more "
                "steps."
            )
        return steering

    def control_image_of(self, number: int, count: int) -> tuple[Path | None, Path | None]:
        """The ready control image that steers image `number` of `count`, or what it is made of."""
        if not self.num_control_images:
            return None, None
        place = number * self.num_control_images // count
        given = [*((path, None) for path in self.condition)]
        computed = [*((None, path) for path in self.condition_from)]
        return [*given, *computed][place]

    def conditions(self, trained: Condition) -> tuple[Condition, Condition]:
        """What reads and what computes control images: with given settings and a local model.

        Raises:
            UserError: another kind of control image was announced, or nothing is computed.
        """
        if self.condition_type not in (None, trained.name):
            raise UserError(
                f"`condition_type` is {self.condition_type}, but the adapter is steered by "
                f"{trained.name} images. Give such a one, or another adapter."
            )
        if self.condition_setting and not self.condition_from:
            raise UserError(
                "`condition_setting` is about control images that are computed, and none is. Add "
                "--condition_from IMAGE, or leave it out."
            )
        settings = trained.settings() | parse_settings(self.condition_setting)
        computing = condition_of(trained.name, settings)
        model = self.condition_model
        return trained, computing.with_model(model) if model else computing


def _make(
    path: Path,
    given: Image.Image,
    make: Callable[[Image.Image, Size, Condition], Fitted],
    size: Size,
    condition: Condition,
    on_note: OnNote,
) -> Image.Image:
    """The control image that a file, opened as `given`, leads to, in the size of the images.

    Raises:
        UserError: it leads to none, naming the file.
    """
    try:
        used, note = make(given, size, condition)
    except FileError:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if note:
        on_note(f"{path}: {note}")
    return used

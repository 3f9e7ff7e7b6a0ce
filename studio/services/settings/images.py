"""The settings of images to be made: on the page, as a batch, and through the API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from typing_extensions import Self

from orthodiff.errors import UserError
from orthodiff.schedulers import sampler_name

from .base import FieldError, JobSettings, job_setting

MOST_IMAGES, MOST_PROMPTS, MOST_ADAPTERS = 64, 16, 4
MOST_BATCH = 10_000
TRIGGER = "{trigger}"
Combine = Literal["compose", "blend", "each"]
Checkpoint = Annotated[str, StringConstraints(pattern=r"^(recommended|last|[0-9]{1,7})$")]


class AdapterUse(BaseModel):
    """One adapter: the id of its training, how strongly, and which checkpoint ("best", a step)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: str = job_setting(..., "Adapter", max_length=120)
    strength: float = job_setting(1.0, "Strength", ge=-2, le=2)
    checkpoint: str = job_setting(
        "recommended", "Checkpoint", pattern=r"recommended|last|[0-9]{1,7}"
    )


class ImageSettings(JobSettings):
    """Make images with a base model and adapters."""

    base: str | None = job_setting(None, "Base model", "Must be the one of the adapters")
    adapters: tuple[AdapterUse, ...] = job_setting((), "Adapters", max_length=MOST_ADAPTERS)
    combine: Combine = job_setting(
        "compose", "Several adapters", "One applied after the other, blended, or each by itself"
    )
    blend: float = job_setting(0.5, "Blend", "0: the first adapter, 1: the second", ge=0, le=1)
    prompts: tuple[str, ...] = job_setting(
        ..., "Prompts", "One per line; {trigger} stands for the trigger word", min_length=1,
        max_length=1000,
    )  # fmt: skip
    negative_prompt: str = job_setting(
        "", "Negative prompt", "What should not be seen", max_length=1000
    )
    num_images: int = job_setting(4, "Images each", "Per prompt", ge=1, le=MOST_IMAGES)
    seed: int = job_setting(0, "First seed", "The next image has the next one", ge=0, lt=2**32)
    num_inference_steps: int | None = job_setting(
        None, "Steps", "More take longer", ge=1, le=200, automatic="by the base"
    )
    guidance_scale: float | None = job_setting(
        None, "Guidance", "Higher: closer to the words", ge=0, le=30, automatic="by the base"
    )
    sampler: str = job_setting("", "Sampler", "Empty: the base's own", max_length=40)
    width: int | None = job_setting(
        None, "Width", ge=32, le=2048, unit="pixels", automatic="the base's own"
    )
    height: int | None = job_setting(
        None, "Height", ge=32, le=2048, unit="pixels", automatic="the base's own"
    )
    compare: bool = job_setting(
        False, "Compare with the base", "The same seeds without the adapters"
    )
    strengths: tuple[float, ...] = job_setting(
        (), "Grid over strengths", "A column for each", max_length=8
    )
    checkpoints: tuple[Checkpoint, ...] = job_setting(
        (), "Grid over checkpoints", "A row for each", max_length=8
    )
    control_strength: float = job_setting(1.0, "Control", "0: it does not count", ge=0, le=2)
    control_start: float = job_setting(0.0, "From", "Share of the steps", ge=0, le=1)
    control_end: float = job_setting(1.0, "To", "Share of the steps", ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(prompt.strip() for prompt in self.prompts):
            raise FieldError("prompts", "The prompt is empty. Write what the images should show.")
        if any(len(prompt) > 1000 or "\x00" in prompt for prompt in self.prompts):
            raise FieldError("prompts", "A prompt is longer than 1000 letters. Shorten it.")
        if self.sampler:
            _check_sampler(self.sampler)
        if self.combine == "blend" and len(self.adapters) != 2:
            raise FieldError(
                "adapters",
                f"A blend lies between two adapters, but {len(self.adapters)} are chosen. Choose "
                "two, or apply them one after the other.",
            )
        if self.checkpoints and (len(self.adapters) != 1):
            raise FieldError(
                "checkpoints", "A grid over checkpoints is of one adapter. Choose exactly one."
            )
        if not self.control_start < self.control_end:
            raise FieldError(
                "control_start",
                f"Control lasts from {self.control_start:g} to {self.control_end:g}. "
                "Let it begin before it ends.",
            )
        return self

    @property
    def count(self) -> int:
        """How many images that makes, without those of the base."""
        passes = max(len(self.strengths), 1) * max(len(self.checkpoints), 1)
        if self.combine == "each":
            passes *= max(len(self.adapters), 1)
        return len(self.lines) * self.num_images * passes

    @property
    def lines(self) -> tuple[str, ...]:
        """The prompts that are not empty."""
        return tuple(line.strip() for line in self.prompts if line.strip())


def _check_sampler(name: str) -> None:
    try:
        sampler_name(name)
    except UserError as error:
        raise FieldError("sampler", str(error)) from error


def check_count(settings: ImageSettings, *, most: int = MOST_IMAGES) -> None:
    """Refuse more images at once than one may ask for.

    Raises:
        FieldError: there are too many.
    """
    if settings.count > most:
        raise FieldError(
            "num_images",
            f"{settings.count} images at once are too many. Ask for at most {most}: fewer prompts, "
            "or fewer images of each. A batch takes more.",
        )

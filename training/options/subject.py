"""The subject to learn, and the class it must not wash out (Ruiz et al., 2208.12242)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ..data.readers.records import DataRequest
from .base import NO_IS_A_WORD, Harmless, Options
from .source import SourceOptions


class SubjectOptions(SourceOptions):
    instance_data_dir: Annotated[Path | None, Harmless] = Field(
        None, description="folder with the subject's images, in any layout --train_data_dir takes"
    )
    instance_prompt: str = Field(
        min_length=1,
        description="prompt naming the subject with a rare token: a photo of sks dog; the caption "
        "of images that bring none",
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        names = ("instance_data_dir", "train_data_dir", "dataset_name")
        given = [name for name in names if getattr(self, name)]
        if not given:
            raise ValueError(
                "`instance_data_dir` is missing. Give the folder of the subject's images with "
                "--instance_data_dir, or a dataset with --dataset_name."
            )
        if len(given) > 1:
            raise ValueError(
                f"`{given[0]}` and `{given[1]}` both say where the images are. Leave one out."
            )
        return self

    @property
    def source(self) -> DataRequest:
        """The subject's images."""
        folder = self.instance_data_dir or self.train_data_dir
        return self.request(folder, caption=self.instance_prompt)


OF_THE_CLASS = (
    "class_prompt", "prior_loss_weight", "num_class_images", "prior_generation_precision",
)  # fmt: skip
"""Options that change a run with prior preservation only."""


class PriorOptions(Options):
    class_data_dir: Annotated[Path | None, Harmless] = Field(
        None, description="folder with images of the class (prior preservation)"
    )
    class_prompt: str | None = Field(None, description="prompt of the class: a photo of a dog")
    with_prior_preservation: bool = Field(
        False, description="also train on images of the class, so that it is not forgotten"
    )
    prior_loss_weight: float = Field(1.0, ge=0, description="weight of the class images' loss")
    num_class_images: int = Field(
        100, ge=1, description="class images; missing ones are made with the base, once"
    )
    sample_batch_size: Annotated[int, Harmless] = Field(
        4, ge=1, description="batch size when making class images"
    )
    prior_generation_precision: Annotated[
        Literal["no", "fp32", "fp16", "bf16"] | None, NO_IS_A_WORD
    ] = Field(None, description="precision in which class images are made [the training's]")

    @model_validator(mode="after")
    def _check_prior(self) -> Self:
        if self.with_prior_preservation and not self.class_prompt:
            raise ValueError(
                "`with_prior_preservation` needs the prompt of the class. "
                'Add --class_prompt, for example "a photo of a dog".'
            )
        if self.class_data_dir and not self.with_prior_preservation:
            raise ValueError(
                "`class_data_dir` is given, but the class images would not be used. "
                "Add --with_prior_preservation or leave the folder out."
            )
        return self

    def notes(self) -> list[str]:
        fields = type(self).model_fields
        idle = [name for name in OF_THE_CLASS if getattr(self, name) != fields[name].default]
        reason = "no images of the class are learned from; add --with_prior_preservation"
        notes = [f"`{name}` has no effect: {reason}." for name in idle]
        return [*super().notes(), *([] if self.with_prior_preservation else notes)]

    def in_effect(self) -> dict[str, Any]:
        idle = () if self.with_prior_preservation else OF_THE_CLASS
        return {**super().in_effect(), **dict.fromkeys(idle)}

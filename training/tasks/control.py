"""Teach a base model to follow control images, by a hint encoder and an orthogonal adapter.

The recipe is that of OFT (2306.07280), BOFT (2311.06243) and HRA (2405.17484): the adapter turns
attention and GEGLU projections, and hints are added once, to the UNet's first features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

import orthodiff
from orthodiff import control
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import Component
from orthodiff.control import Condition, Control, Steering
from orthodiff.devices import autocast_like
from orthodiff.errors import UserError
from orthodiff.io.images import open_control_image
from orthodiff.sampling import GenerateRequest

from ..data.control_images import ControlImageCheck, find_condition
from ..data.dataset import Examples
from ..data.usable import usable_examples
from ..latents.cache import default_cache
from ..options import (
    ControlTrainingOptions,
    Harmless,
    ModelOptions,
    SourceOptions,
)
from ..options.config import RunConfig
from ..options.control import DEFAULT_HINT_LEARNING_RATE
from .base import Task

if TYPE_CHECKING:
    from orthodiff.models import Base

    from ..latents.sampler import Batch

NONE = "none"
"""The method of a hint encoder alone."""


class ControlConfig(RunConfig, ControlTrainingOptions, SourceOptions, ModelOptions):
    """Teach a base model to follow control images: edges, scribbles, segmentation, depth."""

    usual_targets: ClassVar[tuple[str, ...]] = orthodiff.ATTENTION_AND_GEGLU

    method: str = Field(
        "hra",
        description=f"adapter: hra, oft, boft, lora, one that a package adds, or {NONE} "
        "(hint encoder)",
    )
    output_dir: Annotated[Path, Harmless] = Field(
        Path("runs/control"), description="folder of the run"
    )
    scorer: Annotated[str | None, Harmless] = Field(
        NONE, description="CLIP folder or hub id that scores the images, or none"
    )

    @property
    def condition(self) -> Condition:
        """The kind of control images, with its settings."""
        folder = self.train_data_dir and Path(self.train_data_dir)  # plain text where saved
        condition = find_condition(folder, self.condition_type, self.condition_settings())
        return condition.with_model(self.condition_model) if self.condition_model else condition

    def method_settings(self) -> dict[str, Any]:
        if self.method != NONE:
            return super().method_settings()
        if self.settings:
            name = next(iter(self.settings))
            raise ValueError(f"`{name}` is given, but method {NONE} has no settings. Leave it out.")
        return {}

    def notes(self) -> list[str]:
        idle = self.target_modules and self.method == NONE
        note = "`target_modules` has no effect: a hint encoder alone changes no layers."
        return [*super().notes(), *([note] if idle else [])]

    def in_effect(self) -> dict[str, Any]:
        return {
            **super().in_effect(),
            "condition_type": self.condition.name,
            "condition_setting": self.condition.settings(),
            "hint_learning_rate": self.lr_for("hint_encoder"),
        }

    def lr_for(self, part: str) -> float:
        """Prodigy finds one rate for all."""
        if part != "hint_encoder" or self.optimizer == "prodigy":
            return self.peak_lr
        return self.hint_learning_rate or DEFAULT_HINT_LEARNING_RATE

    @model_validator(mode="before")
    @classmethod
    def _pair_up(cls, values: dict[str, Any]) -> dict[str, Any]:
        """One validation prompt goes with every control image, or the other way round."""
        names = ("validation_prompt", "validation_image")
        given = [values.get(name) or () for name in names]
        lists = [list(one) if isinstance(one, list | tuple) else [one] for one in given]
        most = max(map(len, lists))
        pairs = zip(names, lists, strict=True)
        return {**values, **{n: tuple(one * most if len(one) == 1 else one) for n, one in pairs}}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        prompts, images = len(self.validation_prompt), len(self.validation_image)
        if prompts != images:
            raise ValueError(
                f"There are {prompts} of `validation_prompt`, but {images} of `validation_image`. "
                "Give as many, or one of either."
            )
        return self

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if bool(self.train_data_dir) == bool(self.dataset_name):
            raise ValueError(
                "Say what to learn from: either --train_data_dir FOLDER or --dataset_name NAME."
            )
        return self


class ControlTask(Task[ControlConfig]):
    name = "control"
    summary = "teach a base model to follow control images: edges, scribbles, segmentation, ..."
    config = ControlConfig
    has_subject = False

    def check(self, config: ControlConfig) -> None:
        condition = config.condition
        for path in config.validation_image:
            chosen = open_control_image(path)
            try:
                condition.check(chosen)
            except UserError as error:
                raise UserError(f"--validation_image {path}: {error}") from error

    def notes(self, config: ControlConfig, *, resolution: int) -> list[str]:
        fitted = {
            path: control.fit(open_control_image(path), (resolution, resolution), config.condition)[
                1
            ]
            for path in config.validation_image
        }
        return [f"`{path}`: {done}" for path, done in fitted.items() if done]

    def examples(self, config: ControlConfig) -> Examples:
        return self._examples(config, config.condition)

    def held_out(self, config: ControlConfig) -> Examples | list[Any]:
        if (folder := config.validation_data_dir) is None:
            return []
        condition = config.condition
        find_condition(folder, condition.name, {})
        return self._examples(config.of_folder(folder), condition)

    def _examples(self, config: ControlConfig, condition: Condition) -> Examples:
        """Those with control images of that kind, given or to be computed."""
        control_images = ControlImageCheck(condition, trigger=config.trigger_phrase)
        return usable_examples(
            config.request(config.train_data_dir, caption=""),
            skip_bad_files=config.skip_bad_files,
            inspect=control_images,
            conclude=control_images.conclude,
            about=f"{condition} {config.trigger_phrase}",
            cache_dir=config.cache_dir or default_cache(),
            remember=not config.plan,
        )

    def condition(self, config: ControlConfig) -> Condition:
        return config.condition

    def attach(self, config: ControlConfig, base: Base) -> AdapterSet:
        generator = torch.Generator().manual_seed(config.seed)
        parts: dict[str, Component] = {}
        if config.method != NONE:
            parts["unet"] = orthodiff.attach(
                base.denoiser, config.adapter(), targets=config.targets, generator=generator
            )
        parts["hint_encoder"] = control.attach(
            base.denoiser, config.condition, factor=base.factor, generator=generator
        )
        return AdapterSet(base, parts)

    def init_from_data(self, adapter_set: AdapterSet, first_seen: Callable[[], Batch]) -> None:
        _control(adapter_set).init_from_data(_control_images(first_seen()))

    def predict(self, base: Base, adapter_set: AdapterSet, noisy: Tensor, batch: Batch) -> Tensor:
        with autocast_like(noisy):  # the encoder itself is in float32
            hints = _control(adapter_set).encode(_control_images(batch))
        with _control(adapter_set).guided(hints):
            return base.predict(noisy, batch.timesteps, batch.prompt_embeds)

    def steering(
        self, config: ControlConfig, adapter_set: AdapterSet, request: GenerateRequest
    ) -> Steering | None:
        size, condition = (request.width or 0, request.height or 0), config.condition
        control_images = [
            control.fit(open_control_image(path), size, condition)[0]
            for path in config.validation_image
        ]
        each = config.num_validation_images
        return Steering(_control(adapter_set), [one for one in control_images for _ in range(each)])

    def describe(self, config: ControlConfig) -> dict[str, str]:
        rate = config.lr_for("hint_encoder")
        return {"condition_type": config.condition.name, "hint_learning_rate": f"{rate:g}"}


def _control(adapter_set: AdapterSet) -> Control:
    assert adapter_set.control is not None
    return adapter_set.control


def _control_images(batch: Batch) -> Tensor:
    assert batch.control_image is not None
    return batch.control_image

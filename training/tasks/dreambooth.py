"""Personalise a base model on a few pictures of one subject (DreamBooth, 2208.12242)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

import orthodiff
from orthodiff.bundle import Bundle
from orthodiff.pictures import find_pictures
from training.config import RunConfig
from training.dataset import Example, load_examples
from training.options import ModelOptions, PriorOptions, SubjectOptions
from training.tasks.base import Task

if TYPE_CHECKING:
    from orthodiff.families import Base
    from training.batches import Batch


class DreamBoothConfig(RunConfig, PriorOptions, SubjectOptions, ModelOptions):
    """Personalise a base model on a handful of pictures of one subject."""


class DreamBooth(Task):
    name = "dreambooth"
    summary = "personalise a base model on a handful of pictures of one subject"
    config = DreamBoothConfig

    def check(self, config: DreamBoothConfig) -> None:
        from training.prior import check_class_folder

        find_pictures(config.instance_data_dir)
        check_class_folder(config)

    def examples(self, config: DreamBoothConfig, *, resolution: int) -> list[Example]:
        folder, prompt = config.instance_data_dir, config.instance_prompt
        return load_examples(folder, prompt, resolution=resolution)

    def prior_examples(
        self, config: DreamBoothConfig, base: Base, *, resolution: int
    ) -> list[Example]:
        from training.prior import class_examples

        if not config.with_prior_preservation:
            return []
        return class_examples(config, base, resolution=resolution)

    def attach(self, config: DreamBoothConfig, base: Base) -> Bundle:
        generator = torch.Generator().manual_seed(config.seed)
        adapter = orthodiff.attach(base.unet, config.adapter(), generator=generator)
        return Bundle(base, {"unet": adapter})

    def predict(self, base: Base, learned: Bundle, noisy: Tensor, batch: Batch) -> Tensor:
        return base.predict(noisy, batch.timesteps, batch.conditioning)

    def describe(self, config: DreamBoothConfig) -> dict[str, str]:
        described = {"instance_prompt": config.instance_prompt}
        if config.class_prompt:
            described["class_prompt"] = config.class_prompt
        return described

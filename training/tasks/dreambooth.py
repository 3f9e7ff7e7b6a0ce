"""Personalise a base model on a few images of one subject (DreamBooth, 2208.12242)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

import orthodiff
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError

from ..data.dataset import Examples
from ..data.example import Example
from ..data.readers.records import DataRequest
from ..data.usable import usable_examples
from ..latents.cache import default_cache
from ..options import (
    ModelOptions,
    PriorOptions,
    SubjectOptions,
    TextOptions,
)
from ..options.config import RunConfig
from .base import Task
from .prior import ClassImages
from .text_encoders import attach_text

if TYPE_CHECKING:
    from orthodiff.models import Base

    from ..latents.sampler import Batch
    from ..run.shares import Shares


class DreamBoothConfig(RunConfig, TextOptions, PriorOptions, SubjectOptions, ModelOptions):
    """Personalise a base model on a handful of images of one subject."""

    def lr_for(self, part: str) -> float:
        """Prodigy finds one rate for all."""
        own = None if self.optimizer == "prodigy" else self.text_rate(part)
        return own or self.peak_lr

    @property
    def class_images(self) -> ClassImages:
        """Those that the run must not unlearn."""
        return ClassImages(
            self.class_prompt or "",
            self.num_class_images,
            cache_dir=self.cache_dir or default_cache(),
            folder=self.class_data_dir,
            seed=self.seed,
            batch_size=self.sample_batch_size,
            precision=self.prior_generation_precision,
            revision=self.revision,
            variant=self.variant,
        )

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        for name in ("text_encoder_lr", "token_learning_rate"):
            if self.optimizer == "prodigy" and getattr(self, name):
                raise ValueError(
                    f"`{name}` is given, but prodigy finds one rate for all parts. Leave it out, "
                    "or use --optimizer adamw."
                )
        return self

    @model_validator(mode="after")
    def _check_word(self) -> Self:
        word, prompts = self.placeholder_token, (self.instance_prompt, self.trigger_phrase or "")
        if word and not any(word in prompt for prompt in prompts):
            raise ValueError(
                f"`placeholder_token` is {word}, but `instance_prompt` does not use it. "
                f'Write for example "a photo of {word} dog".'
            )
        return self


class DreamBooth(Task[DreamBoothConfig]):
    name = "dreambooth"
    summary = "personalise a base model on a handful of images of one subject"
    config = DreamBoothConfig

    def check(self, config: DreamBoothConfig) -> None:
        config.class_images.check(subject_folder=config.source.folder)

    def examples(self, config: DreamBoothConfig) -> Examples:
        examples = _usable(config, config.source)
        if config.placeholder_token:
            examples.remarks = [*examples.remarks, *_captions_without_word(config, examples)]
        return examples

    def notes(self, config: DreamBoothConfig, *, resolution: int) -> list[str]:
        return config.class_images.notes() if config.with_prior_preservation else []

    def held_out(self, config: DreamBoothConfig) -> Sequence[Example]:
        if config.validation_data_dir is None:
            return []
        source = config.of_folder(config.validation_data_dir).source
        return _usable(config, source)

    def samples_per_epoch(self, config: DreamBoothConfig, examples: Examples) -> int:
        """Of the subject or of the class, whatever there is more of, as diffusers counts."""
        of_class = config.num_class_images if config.with_prior_preservation else 0
        return max(super().samples_per_epoch(config, examples), of_class)

    def prior_examples(
        self,
        config: DreamBoothConfig,
        base: Base,
        *,
        given: Examples,
        resolution: int,
        shares: Shares,
    ) -> Sequence[Example]:
        if not config.with_prior_preservation:
            return []
        return config.class_images.examples(
            base, resolution=resolution, shares=shares, opened=given.opened
        )

    def prior_weight(self, config: DreamBoothConfig) -> float:
        return config.prior_loss_weight

    def prior_given(self, config: DreamBoothConfig) -> Examples:
        if not config.with_prior_preservation:
            return super().prior_given(config)
        return config.class_images.opened()

    def trial_config(self, config: DreamBoothConfig) -> DreamBoothConfig:
        if not config.with_prior_preservation:
            return config
        return config.model_copy(update={"class_data_dir": None, "num_class_images": 1})

    def not_in_trial(self, config: DreamBoothConfig) -> str | None:
        if not config.with_prior_preservation:
            return None
        return f"making those of {config.num_class_images} images of the class that are missing"

    def attach(self, config: DreamBoothConfig, base: Base) -> AdapterSet:
        generator = torch.Generator().manual_seed(config.seed)
        adapter = orthodiff.attach(
            base.denoiser, config.adapter(), targets=config.targets, generator=generator
        )
        text = attach_text(config, config.adapter(), base, generator)
        return AdapterSet(base, {"unet": adapter, **text})

    def predict(self, base: Base, adapter_set: AdapterSet, noisy: Tensor, batch: Batch) -> Tensor:
        conditioning = adapter_set.steer(batch.prompts, batch.prompt_embeds)
        return base.predict(noisy, batch.timesteps, conditioning)

    def describe(self, config: DreamBoothConfig) -> dict[str, str]:
        described = {"instance_prompt": config.instance_prompt}
        if config.class_prompt:
            described["class_prompt"] = config.class_prompt
        if config.placeholder_token:
            described["placeholder_token"] = config.placeholder_token
        return described


def _usable(config: DreamBoothConfig, source: DataRequest) -> Examples:
    return usable_examples(
        source,
        skip_bad_files=config.skip_bad_files,
        cache_dir=config.cache_dir or default_cache(),
        remember=not config.plan,
    )


def _captions_without_word(config: DreamBoothConfig, examples: Examples) -> list[str]:
    """Whether some captions lack the word that is to be learned.

    Raises:
        UserError: all do, so that it would not be learned at all.
    """
    word, trigger = config.placeholder_token or "", config.trigger_phrase or ""
    captions = [f"{trigger}, {caption}" for caption in examples.table.captions()]
    lack, count = sum(word not in caption for caption in captions), len(captions)
    if lack == count:
        raise UserError(
            f"`placeholder_token` is {word}, but no caption has it: the {count} images bring "
            f"captions of their own. Put it before them: --trigger_phrase {word}."
        )
    return [f"{lack} of {count} captions do not have the word {word}."] if lack else []

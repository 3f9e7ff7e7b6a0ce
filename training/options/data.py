"""How images and captions become training samples, whatever the task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import Self

from ..data.buckets import Size, make_buckets, parse_buckets
from ..data.captions import CaptionRules
from ..data.views import (
    INTERPOLATIONS,
    Crop,
    Interpolation,
    Views,
)
from .alias import Alias
from .base import Harmless, Options

DEFAULT_BUCKET_STEP, DEFAULT_CROPS = 64, 4


class DataOptions(Options):
    max_train_samples: int | None = Field(
        None, ge=1, description="learn from this many images only, drawn by the seed [all]"
    )
    resolution: int | None = Field(
        None, ge=8, description="side of the square images in pixels [the base's own]"
    )
    crop: Crop | None = Field(
        None,
        description="cut images to shape in the middle (center), anywhere (random, --num_crops "
        "of each), or not at all (none: each keeps its own shape) [center]",
    )
    center_crop: Annotated[bool | None, Harmless, Alias("crop", on="center", off="random")] = Field(
        None,
        exclude=True,
        description="diffusers' switch: true is --crop center, false is --crop random",
    )
    num_crops: int = Field(
        DEFAULT_CROPS,
        ge=1,
        description="random crops or tints of each image, encoded once and kept",
    )
    image_interpolation_mode: Interpolation = Field(
        "lanczos", description="how images are scaled: " + ", ".join(INTERPOLATIONS)
    )
    random_flip: bool = Field(
        False,
        description="also train on mirror images; breaks subjects with letters or unlike sides",
    )
    color_jitter: float = Field(
        0.0, ge=0, le=1, description="vary brightness, contrast and saturation by up to this share"
    )
    enable_bucket: bool = Field(
        False, description="sort images into shapes of equal area, and cut away less"
    )
    min_bucket_reso: int | None = Field(
        None, ge=8, description="shortest side of a bucket in pixels [half the resolution]"
    )
    max_bucket_reso: int | None = Field(
        None, ge=8, description="longest side of a bucket in pixels [twice the resolution]"
    )
    bucket_reso_steps: int | None = Field(
        None,
        ge=8,
        description="sides of buckets are multiples of this [64, less at low resolution]",
    )
    aspect_ratio_buckets: str | None = Field(
        None, description="these buckets instead: height,width;height,width;..."
    )
    trigger_phrase: str | None = Field(
        None,
        min_length=1,
        description="put this before captions that lack it: sks dog",
    )
    shuffle_caption: bool = Field(
        False, description="change the order of a caption's parts, which commas divide"
    )
    keep_tokens: int = Field(0, ge=0, description="first parts that --shuffle_caption leaves alone")
    num_shuffles: int = Field(8, ge=1, description="orders of each caption, encoded once and kept")
    caption_dropout_rate: float = Field(
        0.0, ge=0, le=1, description="share of times that an image is seen without its caption"
    )
    cache_dir: Annotated[Path | None, Harmless] = Field(
        None, description="keep encoded and class images here [~/.cache/orthodiff]"
    )

    @model_validator(mode="after")
    def _check_crops(self) -> Self:
        if self.crop == "none" and self.bucketed:
            raise ValueError(
                "`crop` is none, so that every image keeps its own shape, but buckets are asked "
                "for. Leave one of them out."
            )
        return self

    @model_validator(mode="after")
    def _check_buckets(self) -> Self:
        bounds = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
        idle = [name for name in bounds if getattr(self, name) is not None]
        if idle and not self.enable_bucket:
            raise ValueError(
                f"`{idle[0]}` is given, but there are no buckets. Add --enable_bucket."
            )
        if self.enable_bucket and self.aspect_ratio_buckets is not None:
            raise ValueError(
                "`enable_bucket` makes buckets, but `aspect_ratio_buckets` lists them. "
                "Leave one of them out."
            )
        if self.aspect_ratio_buckets is not None:
            parse_buckets(self.aspect_ratio_buckets)
        return self

    @model_validator(mode="after")
    def _check_captions(self) -> Self:
        if self.keep_tokens and not self.shuffle_caption:
            raise ValueError(
                "`keep_tokens` is given, but captions are not shuffled. Add --shuffle_caption."
            )
        return self

    def notes(self) -> list[str]:
        idle = self.num_crops != DEFAULT_CROPS and not self._has_chance
        note = "`num_crops` has no effect: images are neither cut at random nor tinted."
        return [*super().notes(), *([note] if idle else [])]

    def in_effect(self) -> dict[str, Any]:
        values: dict[str, Any] = {"crop": self.cut}
        if not self._has_chance:
            values["num_crops"] = None
        if not self.shuffle_caption:
            values["num_shuffles"] = None
        return {**super().in_effect(), **values}

    @property
    def cut(self) -> Crop:
        """How images are cut to shape."""
        return self.crop or "center"

    @property
    def _has_chance(self) -> bool:
        """Whether chance decides how images are seen."""
        return self.cut == "random" or self.color_jitter > 0

    @property
    def bucketed(self) -> bool:
        """Whether there are more shapes than the square."""
        return self.enable_bucket or self.aspect_ratio_buckets is not None

    def views(self, resolution: int, *, factor: int, seed: int) -> Views:
        """How images are seen at `resolution` by a base with `factor` pixels per latent.

        Raises:
            UserError: a side of a bucket is not a multiple of `factor`, or no bucket is possible.
        """
        return Views(
            resolution=resolution,
            buckets=self._buckets(resolution, factor),
            step=factor,
            crop=self.cut,
            count=self.num_crops,
            flip=self.random_flip,
            jitter=self.color_jitter,
            interpolation=self.image_interpolation_mode,
            seed=seed,
        )

    def caption_rules(self, *, seed: int) -> CaptionRules:
        """How captions vary."""
        return CaptionRules(
            trigger=self.trigger_phrase,
            shuffle=self.shuffle_caption,
            keep=self.keep_tokens,
            count=self.num_shuffles,
            dropout=self.caption_dropout_rate,
            seed=seed,
        )

    def _buckets(self, resolution: int, factor: int) -> tuple[Size, ...]:
        if self.aspect_ratio_buckets is not None:
            return parse_buckets(self.aspect_ratio_buckets, factor=factor)
        if not self.enable_bucket:
            return ((resolution, resolution),)
        default_step = min(DEFAULT_BUCKET_STEP, resolution // 8) // factor * factor
        return make_buckets(
            resolution,
            step=self.bucket_reso_steps or max(default_step, factor),
            smallest=self.min_bucket_reso or resolution // 2,
            largest=self.max_bucket_reso or resolution * 2,
            factor=factor,
        )

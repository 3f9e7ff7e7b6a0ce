"""Options of `generate` about many images: where rows come from and how a batch is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orthodiff.batch.encode import Encoder
from orthodiff.batch.rows.axes import NONE, Axes
from orthodiff.batch.rows.expand import Sources
from orthodiff.errors import UserError
from orthodiff.schedulers import SAMPLERS, sampler_name

NAMES = ", ".join(SAMPLERS)


class RowOptions(BaseModel):
    """What rows are made of, where a file of prompts does not say so itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompts: Path | None = Field(
        None, description="file of prompts: .txt (kohya's suffixes), .csv, .jsonl or .yaml"
    )
    seeds: tuple[int, ...] = Field((), description="seeds; each makes an image of every row")
    adapters: tuple[str, ...] = Field(
        (), description='adapters; each makes an image of every row ("a + b" composes, none: base)'
    )
    checkpoints: tuple[str, ...] = Field(
        (), description="steps of checkpoints in the adapter's folder; each makes an image"
    )
    strengths: tuple[float, ...] = Field((), description="strengths; each makes an image")
    samplers: tuple[str, ...] = Field((), description="samplers; each makes an image")
    sampler: str | None = Field(None, description=f"sampler, one of {NAMES} [the base's own]")
    init_image: Path | None = Field(None, description="image to start from (img2img)")
    mask: Path | None = Field(None, description="mask of --init_image; white is painted anew")
    denoise: float | None = Field(
        None, gt=0, le=1, description="share of the steps done on --init_image [1]"
    )
    combine: Literal["product", "zip"] = Field(
        "product", description="how alternatives in a prompt are combined: product or zip"
    )
    lists: tuple[str, ...] = Field((), description="values of a $name in prompts, as NAME=A,B,C")
    wildcards: Path | None = Field(
        None, description="folder of NAME.txt for __NAME__ in prompts [wildcards/ by the file]"
    )
    limit: int | None = Field(None, ge=1, description="make only the first so many images")

    @field_validator("sampler")
    @classmethod
    def _known(cls, written: str | None) -> str | None:
        return None if written is None else sampler_name(written)

    @field_validator("samplers")
    @classmethod
    def _all_known(cls, written: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sampler_name(each) for each in written)

    def axes(self, defaults: dict[str, Any], *, num_images: int) -> Axes:
        """What rows are crossed with, and what they leave unsaid."""
        named = {
            name: str(value) if isinstance(value, Path) else value
            for name in ("sampler", "init_image", "mask", "denoise")
            if (value := getattr(self, name)) is not None
        }
        return Axes(
            adapter=[() if a == NONE else tuple(a.split(" + ")) for a in self.adapters],
            checkpoint=self.checkpoints,
            strength=self.strengths,
            sampler=self.samplers,
            seed=self.seeds,
            defaults={**defaults, **named},
            num_images=num_images,
        )

    def sources(self, lists: dict[str, list[str]]) -> Sources:
        """Where `$name` and `__name__` are looked up; `lists` are those of the prompts' file.

        Raises:
            UserError: a list is not NAME=A,B,C, or the folder of wildcards does not exist.
        """
        given = dict(lists)
        for written in self.lists:
            name, equals, values = written.partition("=")
            if not (name.isidentifier() and equals and values):
                raise UserError(f"`lists` is {written!r}, but NAME=A,B,C is due.")
            given[name] = [value.strip() for value in values.split(",")]
        folder = self.wildcards
        if folder is None and self.prompts is not None:
            beside = self.prompts.parent / "wildcards"
            folder = beside if beside.is_dir() else None
        elif folder is not None and not folder.is_dir():
            raise UserError(f"`wildcards` is `{folder}`, which is no folder. Check the path.")
        return Sources(given, folder)


class OutputOptions(BaseModel):
    """How a batch is made and written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str | None = Field(
        None, description="file names, e.g. {index:05d}-{prompt:.40}-{seed} (also id, adapter ...)"
    )
    format: Literal["png", "webp", "jpeg"] = Field("png", description="png, webp or jpeg")
    sidecar: bool = Field(False, description="write how an image was made beside it, as JSON")
    no_metadata: bool = Field(False, description="do not write into images how they were made")
    engine: Literal["local", "ray"] = Field("local", description="local (processes) or ray")
    workers: int | None = Field(
        None, ge=1, description="processes that make images [one per GPU, 1 on a CPU]"
    )
    ray_address: str | None = Field(
        None, description="address of a running Ray cluster [a local one is started]"
    )
    retry_failed: bool = Field(False, description="make images again that failed before")
    stop_on_error: bool = Field(False, description="end at the first image that fails")
    skip_bad: bool = Field(False, description="leave out rows that cannot be meant")
    dry_run: bool = Field(False, description="say what would be made, and in what time")
    overwrite: bool = Field(
        False, description="replace what an earlier `generate` made in --output_dir, nothing else"
    )

    @property
    def encoder(self) -> Encoder:
        """How images become files.

        Raises:
            UserError: contradicting flags.
        """
        if self.sidecar and self.no_metadata:
            raise UserError("Both `sidecar` and `no_metadata` are given. Leave one out.")
        metadata: Literal["embed", "sidecar", "none"] = (
            "sidecar" if self.sidecar else "none" if self.no_metadata else "embed"
        )
        return Encoder(self.format, metadata)

"""`python -m orthodiff export` and `merge`: an adapter folder in, what other tools read out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orthodiff.cli.flags import read_options
from orthodiff.cli.options import DTYPES, hush
from orthodiff.export import export


class AdapterOptions(BaseModel):
    """What both commands need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Path = Field(description="adapter folder")
    pretrained_model_name_or_path: str | None = Field(
        None, description="base model [the one the adapter was trained on]"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    strength: float = Field(1.0, description="how far the weights are turned")
    dtype: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="precision of the file: fp32, fp16 or bf16"
    )
    overwrite: bool = Field(False, description="replace what is there already")


class ExportOptions(AdapterOptions):
    """Write an adapter as a LoRA (exact for HRA) or as weight differences for other tools."""

    output: Path = Field(description="file to write, ending in .safetensors")
    format: Literal["lora", "kohya", "diff"] = Field(
        "lora", description="lora (diffusers), kohya (A1111, ComfyUI, InvokeAI) or diff (ComfyUI)"
    )
    tolerance: float = Field(
        0.01, ge=0, lt=1, description="relative error at which OFT and BOFT are cut to a LoRA"
    )
    max_rank: int | None = Field(None, ge=1, description="largest rank of that LoRA")


class MergeOptions(AdapterOptions):
    """Write a whole model with the adapter in its weights."""

    output: Path = Field(description="new folder, or with --single_file a .safetensors file")
    single_file: bool = Field(False, description="one file for other tools, not a folder")


def export_command(arguments: Sequence[str]) -> None:
    """Export an adapter and print how exact the file is.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = read_options(ExportOptions, arguments, prog="python -m orthodiff export")
    hush()
    written = export(
        options.adapter,
        options.output,
        format=options.format,
        base=options.pretrained_model_name_or_path,
        revision=options.revision,
        variant=options.variant,
        strength=options.strength,
        tolerance=options.tolerance,
        max_rank=options.max_rank,
        dtype=DTYPES[options.dtype],
        overwrite=options.overwrite,
    )
    print(*written.layers(), written, sep="\n")


def merge_command(arguments: Sequence[str]) -> None:
    """Merge an adapter into a copy of its base model.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = read_options(MergeOptions, arguments, prog="python -m orthodiff merge")
    hush()
    written = export(
        options.adapter,
        options.output,
        format="single" if options.single_file else "merged",
        base=options.pretrained_model_name_or_path,
        revision=options.revision,
        variant=options.variant,
        strength=options.strength,
        dtype=DTYPES[options.dtype],
        overwrite=options.overwrite,
    )
    print(written)

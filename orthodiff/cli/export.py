"""`orthodiff export`: an adapter folder in, a file for other tools out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from orthodiff.cli.flags import read_options
from orthodiff.devices import DTYPES
from orthodiff.export import export
from orthodiff.io.atomic import check_writable
from orthodiff.logs import quiet_libraries
from orthodiff.options.adapter import SavedAdapterOptions


class ExportOptions(SavedAdapterOptions):
    """Write an adapter as a LoRA (exact for HRA) or as weight differences for other tools."""

    output: Path = Field(description="file to write, ending in .safetensors")
    format: Literal["lora", "kohya", "diff"] = Field(
        "lora", description="lora (diffusers), kohya (A1111, ComfyUI, InvokeAI) or diff (ComfyUI)"
    )
    tolerance: float = Field(
        0.01, ge=0, lt=1, description="relative error at which OFT and BOFT are cut to a LoRA"
    )
    max_rank: int | None = Field(None, ge=1, description="largest rank of that LoRA")


def export_command(arguments: Sequence[str]) -> None:
    """Export an adapter and print how exact the file is.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = read_options(ExportOptions, arguments, prog="orthodiff export")
    check_writable(options.output)
    quiet_libraries()
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

"""`orthodiff merge`: a whole model with the adapter in its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from orthodiff.cli.flags import read_options
from orthodiff.devices import DTYPES
from orthodiff.export import export
from orthodiff.io.atomic import check_writable
from orthodiff.logs import quiet_libraries
from orthodiff.options.adapter import SavedAdapterOptions


class MergeOptions(SavedAdapterOptions):
    """Write a whole model with the adapter in its weights."""

    output: Path = Field(description="new folder, or with --single_file a .safetensors file")
    single_file: bool = Field(False, description="one file for other tools, not a folder")


def merge_command(arguments: Sequence[str]) -> None:
    """Merge an adapter into a copy of its base model.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = read_options(MergeOptions, arguments, prog="orthodiff merge")
    check_writable(options.output)
    quiet_libraries()
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

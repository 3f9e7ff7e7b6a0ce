"""`orthodiff merge`, an adapter in a model's weights; `orthodiff compose`, two adapters as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orthodiff.adapters.peft_format.read import read_adapter_metadata
from orthodiff.cli.flags import read_options
from orthodiff.components.blend import load_blend
from orthodiff.components.compose import load_all
from orthodiff.devices import DTYPES
from orthodiff.errors import UserError
from orthodiff.export import export
from orthodiff.export.attach_base import home, open_base
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


class ComposeOptions(BaseModel):
    """Write two adapters as one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapters: tuple[Path, Path] = Field(description="the first, which is applied first, and second")
    output: Path = Field(description="new folder")
    pretrained_model_name_or_path: str | None = Field(
        None, description="base model [the one the first adapter was trained on]"
    )
    blend: float | None = Field(
        None, ge=0, le=1,
        description="a point on the way between the two, 0 the first, 1 the second [compose them]",
    )  # fmt: skip


def compose_command(arguments: Sequence[str]) -> None:
    """Compose or blend two adapters of one base into a new folder.

    Raises:
        UserError: a bad option, or adapters that do not go together; nothing has been written.
    """
    options = read_options(ComposeOptions, arguments, prog="orthodiff compose")
    check_writable(options.output)
    if options.output.exists():
        raise UserError(f"{options.output} exists already. Choose a new name.")
    quiet_libraries()
    base = open_base(options.adapters[0], options.pretrained_model_name_or_path)
    if options.blend is None:
        adapter_set = load_all(base, options.adapters)
    else:
        adapter_set = load_blend(base, options.adapters, options.blend)
    first = read_adapter_metadata(home(options.adapters[0]))
    words = {key: first[key] for key in ("instance_prompt",) if key in first}
    name = options.pretrained_model_name_or_path or first.get("base")
    adapter_set.save(options.output, base=name, metadata=words)
    print(f"{options.output} written: {adapter_set.method}.")

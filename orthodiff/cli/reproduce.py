"""`orthodiff reproduce IMAGE`: make an image again from what it carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orthodiff.batch.reproduce import read_source, reproduce
from orthodiff.batch.worker import WorkerSpec
from orthodiff.cli.flags import read_options
from orthodiff.cli.gc import uncollected
from orthodiff.cli.progress import print_note
from orthodiff.devices import DTYPES
from orthodiff.io.png_metadata import ImageRecipe
from orthodiff.logs import quiet_libraries
from orthodiff.options.control import ControlOptions
from orthodiff.options.sampling import SamplingOptions
from orthodiff.settings import validate

DTYPE_NAMES = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}


class ReproduceOptions(BaseModel):
    """Make an image again from what it carries, and say whether it is the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image: Path = Field(description="image that orthodiff made; --image may be left out")
    pretrained_model_name_or_path: str | None = Field(
        None, description="base model, if it lies elsewhere now [as recorded]"
    )
    adapter: tuple[str, ...] = Field(
        (), description="adapter folders, if they lie elsewhere now [as recorded]"
    )
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(
        None, description="precision [as recorded]"
    )
    device: str | None = Field(None, description="cpu, cuda, ... [a GPU if there is one]")
    output: Path | None = Field(None, description="file for the image that is made [none]")


def reproduce_command(arguments: Sequence[str]) -> int:
    """Say how far the image made now is from the first; 0: the same bits, 1: not.

    Raises:
        UserError: the image does not say how it was made, or cannot be made here.
    """
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words = ["--image", *words]
    options = read_options(ReproduceOptions, words, prog="orthodiff reproduce")
    quiet_libraries()
    source = read_source(options.image)
    recipe = source.recipe
    given = {
        "pretrained_model_name_or_path": options.pretrained_model_name_or_path or source.base,
        "dtype": options.dtype or DTYPE_NAMES.get(recipe.dtype),
        "device": options.device,
    }
    spec = WorkerSpec(validate(SamplingOptions, given), _control(recipe))
    with uncollected():
        worker = spec.open()
    result = reproduce(source, worker, adapter=options.adapter)
    print(f"{options.image}: {result}")
    for change in result.changes:
        print_note(change)
    if options.output:
        result.image.save(options.output)
    return 0 if result.identical else 1


def _control(recipe: ImageRecipe) -> ControlOptions:
    """How control images were computed then."""
    settings = tuple(recipe.condition_setting.split()) if recipe.condition_from else ()
    model = recipe.condition_model if recipe.condition_from else ""
    return ControlOptions.model_construct(
        condition_type=recipe.condition_type or None,
        condition_setting=settings,
        condition_model=model or None,
    )

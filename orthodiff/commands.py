"""The commands of `python -m orthodiff`: options in, files out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orthodiff import Adapter
from orthodiff.checkpoint import read_config, read_metadata
from orthodiff.families import Base
from orthodiff.flags import flags_of, parse_flags, validate
from orthodiff.generate import GenerateRequest, generate
from orthodiff.options import Options, hush, make_folder, progress
from orthodiff.recipe import Recipe, save_png
from orthodiff.sheet import contact_sheet


class GenerateOptions(Options):
    """Make pictures with a base model, with or without an adapter."""

    adapter: Path | None = Field(None, description="adapter folder; without one: the base alone")
    prompt: tuple[str, ...] = Field(min_length=1, description="prompt; may be repeated")
    num_images: int = Field(1, ge=1, description="pictures per prompt")
    output_dir: Path = Field(Path("runs/pictures"), description="folder for the PNG files")


class InspectOptions(BaseModel):
    """Say what an adapter folder holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Path = Field(description="adapter folder")


def generate_command(arguments: Sequence[str]) -> None:
    """Write one PNG per picture, its recipe inside, and a contact sheet.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = validate(GenerateOptions, _parse(GenerateOptions, arguments, "generate"))
    hush()
    base = options.open_base()
    adapter = options.attach(base, options.adapter)
    prompts = [prompt for prompt in options.prompt for _ in range(options.num_images)]
    seeds = list(range(options.seed, options.seed + options.num_images)) * len(options.prompt)
    request = options.request(prompts, seeds).resolved(base)
    make_folder(options.output_dir)
    with progress() as on_step:
        pictures = generate(base, request, on_step=on_step)
    for number, picture in enumerate(pictures):
        recipe = recipe_of(base, request, number, adapter=adapter, options=options)
        save_png(picture, options.output_dir / f"{number:02d}.png", recipe)
    contact_sheet(pictures).save(options.output_dir / "contact_sheet.png")
    print(f"{len(pictures)} pictures and contact_sheet.png written to {options.output_dir}")


def evaluate_command(arguments: Sequence[str]) -> None:
    """Compare base and adapted; see `orthodiff.evaluate`.

    Raises:
        UserError: a bad option, base, adapter or subject; nothing has been written.
    """
    from orthodiff.evaluate import EvaluateOptions, evaluate

    options = validate(EvaluateOptions, _parse(EvaluateOptions, arguments, "evaluate"))
    hush()
    evaluate(options)


def inspect_command(arguments: Sequence[str]) -> None:
    """Print the adapter's configuration and recipe as JSON.

    Raises:
        UserError: the folder is not an adapter we can read.
    """
    options = validate(InspectOptions, _parse(InspectOptions, arguments, "inspect"))
    config = read_config(options.adapter)
    found = {"config": config, "recipe": read_metadata(options.adapter)}
    print(json.dumps(found, indent=2, ensure_ascii=False))


def recipe_of(
    base: Base,
    request: GenerateRequest,
    number: int,
    *,
    adapter: Adapter | None,
    options: GenerateOptions,
) -> Recipe:
    """How picture `number` of a resolved request was made."""
    return Recipe(
        prompt=request.prompts[number],
        negative_prompt=request.negative_prompt,
        seed=request.seeds[number],
        num_inference_steps=request.num_inference_steps or 0,
        guidance_scale=request.guidance_scale or 0.0,
        width=request.width or 0,
        height=request.height or 0,
        scheduler=type(base.scheduler).__name__,
        base=base.name,
        adapter=str(options.adapter) if options.adapter else "",
        method=adapter.method.name if adapter else "",
        strength=options.strength,
        merged=options.merge,
    )


def _parse(model: type[BaseModel], arguments: Sequence[str], name: str) -> dict:
    prog = f"python -m orthodiff {name}"
    return parse_flags(flags_of(model), arguments, prog=prog, description=model.__doc__ or "")

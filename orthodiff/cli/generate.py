"""`orthodiff generate`: prompts in, images out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from pydantic import Field

from orthodiff.cli.control_options import ControlOptions
from orthodiff.cli.flags import read_options
from orthodiff.cli.gc import uncollected
from orthodiff.cli.options import SamplingOptions
from orthodiff.cli.progress import print_note, progress
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import Steering, overlay
from orthodiff.evaluation.image_grid import contact_sheet
from orthodiff.io.atomic import make_folder
from orthodiff.io.png_metadata import Recipe, save_png
from orthodiff.logs import quiet_libraries
from orthodiff.models import Base
from orthodiff.sampling import GenerateRequest, generate


class GenerateOptions(ControlOptions, SamplingOptions):
    """Make pictures with a base model, with or without an adapter."""

    adapter: tuple[Path, ...] = Field(
        (), description="adapter folder; several are composed, the first applied first"
    )
    prompt: tuple[str, ...] = Field(min_length=1, description="prompt; may be repeated")
    num_images: int = Field(1, ge=1, description="pictures per prompt")
    output_dir: Path = Field(Path("runs/pictures"), description="folder for the PNG files")


def generate_command(arguments: Sequence[str]) -> None:
    """Write one PNG per picture, its recipe inside, and a contact sheet.

    Raises:
        UserError: a bad option, base or adapter; nothing has been written.
    """
    options = read_options(GenerateOptions, arguments, prog="python -m orthodiff generate")
    quiet_libraries()
    with uncollected():
        base = options.open_base()
    adapter_set = options.attach(base, options.adapter)
    prompts = options.prompt * max(options.num_maps, 1)
    request = options.request(prompts, num_images=options.num_images).resolved(base)
    steering = options.steering(adapter_set, request, on_note=print_note)
    make_folder(options.output_dir)
    with progress() as on_step:
        pictures = generate(base, request, steering=steering, on_step=on_step)
    for number, picture in enumerate(pictures):
        recipe = recipe_of(base, request, number, adapter_set=adapter_set, options=options)
        save_png(picture, options.output_dir / f"{number:02d}.png", recipe)
    shown = _with_maps(pictures, steering, options.output_dir) if steering else pictures
    sheet = contact_sheet(shown, multiple=3 if steering else 1)
    sheet.save(options.output_dir / "contact_sheet.png")
    print(f"{len(pictures)} pictures and contact_sheet.png written to {options.output_dir}")


def recipe_of(
    base: Base,
    request: GenerateRequest,
    number: int,
    *,
    adapter_set: AdapterSet | None,
    options: GenerateOptions,
) -> Recipe:
    """How picture `number` of a resolved request was made."""
    ready, source = options.map_of(number, len(request.prompts))
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
        adapter=" + ".join(map(str, options.adapter)),
        method=adapter_set.method if adapter_set else "",
        strength=options.strength,
        merged=options.merge,
        condition=str(ready or ""),
        condition_from=str(source or ""),
        condition_model=options.condition_model or "",
        condition_type=adapter_set.control.condition.name
        if adapter_set and adapter_set.control
        else "",
        condition_setting=" ".join(options.condition_setting),
        control_strength=options.control_strength,
        control_start=options.control_start,
        control_end=options.control_end,
    )


def _with_maps(
    pictures: Sequence[Image.Image], steering: Steering, folder: Path
) -> list[Image.Image]:
    """Write each picture's map as it was used, and one laid over the other; all three of each."""
    shown = []
    for number, (picture, used) in enumerate(zip(pictures, steering.maps, strict=True)):
        laid = overlay(picture, used)
        used.save(folder / f"{number:02d}_map.png")
        laid.save(folder / f"{number:02d}_overlay.png")
        shown += [used, picture, laid]
    return shown

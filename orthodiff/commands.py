"""The commands of `python -m orthodiff`: options in, files out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

import orthodiff
from orthodiff import Adapter
from orthodiff.checkpoint import read_config, read_metadata
from orthodiff.errors import UserError
from orthodiff.families import Base, load_base
from orthodiff.flags import flags_of, parse_flags, validate
from orthodiff.generate import GenerateRequest, generate
from orthodiff.recipe import Recipe, save_png
from orthodiff.sheet import contact_sheet

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Options(BaseModel):
    """What every command that makes pictures needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pretrained_model_name_or_path: str = Field(
        description="base model: a diffusers-format folder or a hub id"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    merge: bool = Field(False, description="merge the adapter into the weights first")
    num_inference_steps: int | None = Field(
        None, ge=1, description="denoising steps [the base's advice]"
    )
    guidance_scale: float | None = Field(
        None, ge=0, description="classifier-free guidance [the base's advice]"
    )
    negative_prompt: str = Field("", description="what the pictures should not show")
    width: int | None = Field(None, ge=8, description="width in pixels [the base's own]")
    height: int | None = Field(None, ge=8, description="height in pixels [the base's own]")
    seed: int = Field(0, ge=0, description="seed of the first picture; the next has seed + 1")
    batch_size: int = Field(4, ge=1, description="pictures made at once")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(
        None, description="precision [fp32 on a CPU, fp16 on a GPU]"
    )
    device: str | None = Field(None, description="cpu, cuda, ... [a GPU if there is one]")

    def open_base(self) -> Base:
        """Load the base.

        Raises:
            UserError: it cannot be found or is not supported.
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        usual = "fp32" if device == "cpu" else "fp16"
        return load_base(
            self.pretrained_model_name_or_path,
            revision=self.revision,
            variant=self.variant,
            dtype=DTYPES[self.dtype or usual],
            device=device,
        )

    def request(self, prompts: Sequence[str], seeds: Sequence[int]) -> GenerateRequest:
        """These options for these pictures."""
        return GenerateRequest(
            tuple(prompts),
            tuple(seeds),
            negative_prompt=self.negative_prompt,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            batch_size=self.batch_size,
        )


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
    adapter = attach_saved(base, options.adapter, merge=options.merge)
    prompts = [prompt for prompt in options.prompt for _ in range(options.num_images)]
    seeds = list(range(options.seed, options.seed + options.num_images)) * len(options.prompt)
    request = options.request(prompts, seeds).resolved(base)
    make_folder(options.output_dir)
    with progress() as on_step:
        pictures = generate(base, request, on_step=on_step)
    for number, picture in enumerate(pictures):
        recipe = recipe_of(
            base, request, number, adapter=adapter, folder=options.adapter, merged=options.merge
        )
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


def attach_saved(base: Base, folder: Path | None, *, merge: bool) -> Adapter | None:
    """Attach the adapter in `folder` to the base's UNet.

    Raises:
        UserError: the folder is no adapter, or it does not fit this base.
    """
    if folder is None:
        if merge:
            raise UserError("`merge` needs an adapter. Add --adapter FOLDER.")
        return None
    adapter = orthodiff.load(base.unet, folder)
    if merge:
        adapter.merge()
    return adapter


def recipe_of(
    base: Base,
    request: GenerateRequest,
    number: int,
    *,
    adapter: Adapter | None,
    folder: Path | None,
    merged: bool,
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
        adapter=str(folder) if folder else "",
        method=adapter.method.name if adapter else "",
        merged=merged,
    )


def make_folder(folder: Path) -> None:
    """Make an output folder.

    Raises:
        UserError: it is a file or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The output folder `{folder}` cannot be made ({error.strerror}). "
            "Choose another --output_dir."
        ) from error


class progress:  # noqa: N801 - used like a function: `with progress() as on_step`
    """A bar over denoising steps, on a terminal only."""

    def __enter__(self) -> progress:
        self.bar = tqdm(unit="step", disable=not sys.stderr.isatty())
        return self

    def __call__(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def hush() -> None:
    """Silence the libraries' loading bars: they would bury our own."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


def _parse(model: type[BaseModel], arguments: Sequence[str], name: str) -> dict:
    prog = f"python -m orthodiff {name}"
    return parse_flags(flags_of(model), arguments, prog=prog, description=model.__doc__ or "")

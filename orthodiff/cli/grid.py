"""`orthodiff grid`: images over two or three axes, as labelled sheets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from pydantic import Field, model_validator
from typing_extensions import Self

from orthodiff.batch.grid import Axis, draw_grid, grid_rows
from orthodiff.batch.manifest import Manifest
from orthodiff.batch.rows.row import Row
from orthodiff.batch.run import BatchPlan
from orthodiff.cli.flags import read_options
from orthodiff.cli.generate import GenerateOptions, generate_rows
from orthodiff.errors import UserError
from orthodiff.io.atomic import share_file
from orthodiff.io.png_metadata import png_bytes

TEMPLATE = "images/{index:03d}"


class GridOptions(GenerateOptions):
    """Draw images over two or three axes: sheets with labels. An axis is NAME=VALUE,VALUE,...

    Axes: prompt (values separated by |), seed, strength, checkpoint, adapter, steps, guidance,
    sampler. All flags of `generate` hold for every image.
    """

    x: str = Field(description="axis from left to right, such as seed=1,2,3")
    y: str | None = Field(None, description="axis from top to bottom, such as strength=0.5,1")
    z: str | None = Field(None, description="axis of sheets, such as sampler=ddim,euler")
    output_dir: Path = Field(Path("runs/grid"), description="folder for sheets and images")

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        """A grid's prompt may be an axis."""
        if self.prompts is not None:
            raise ValueError("`prompts` cannot be read for a grid. Use the axis prompt=A|B.")
        if len(self.prompt) > 1:
            raise ValueError("Several prompts are an axis: prompt=A|B.")
        return self

    @property
    def axes_given(self) -> list[Axis]:
        """The axes from the fastest to the slowest.

        Raises:
            UserError: one cannot be read, or `z` came without `y`.
        """
        if self.z and not self.y:
            raise UserError("`z` is given, but not `y`. Call the second axis y.")
        return [Axis.parse(written) for written in (self.x, self.y, self.z) if written]

    def rows(self) -> tuple[list[Row], list[str]]:
        defaults = self.axes(self.defaults(), num_images=1).defaults
        prompt = {"prompt": self.prompt[0]} if self.prompt else {}
        return grid_rows(self.axes_given, {**defaults, **prompt}, self.sources({})), []


def grid_command(arguments: Sequence[str]) -> int:
    """Make the images and draw the sheets; 0: all are there, 1: some failed.

    Raises:
        UserError: a bad option, axis, base or adapter; nothing has been written.
    """
    options = read_options(GridOptions, arguments, prog="orthodiff grid")
    axes = options.axes_given
    rows, _ = options.rows()

    def draw(plan: BatchPlan) -> None:
        for name, sheet in _sheets(plan, rows, axes, options.output_dir):
            share_file(options.output_dir / name, png_bytes(sheet))
            print(f"Look at {options.output_dir / name}")

    return generate_rows(options, rows, [], template=options.name or TEMPLATE, at_end=draw)


def _sheets(
    plan: BatchPlan, rows: Sequence[Row], axes: Sequence[Axis], folder: Path
) -> Iterator[tuple[str, Image.Image]]:
    """A sheet for each value of the third axis, with its file's name."""
    manifest = Manifest(folder)
    files = {record["id"]: record["file"] for record in manifest.records(manifest.load().images)}
    images = [_open(folder, files.get(plan.ids[number])) for number in range(len(rows))]
    x, y = axes[0], axes[1] if len(axes) > 1 else None
    size = len(x.values) * (len(y.values) if y else 1)
    for number, value in enumerate(axes[2].values if len(axes) > 2 else ("",)):
        title = axes[2].label(value) if value else " x ".join(axis.name for axis in axes)
        name = f"grid-{number + 1}.png" if value else "grid.png"
        yield name, draw_grid(images[number * size : (number + 1) * size], x, y, title=title)


def _open(folder: Path, name: str | None) -> Image.Image | None:
    if name is None:
        return None
    with Image.open(folder / name) as image:
        return image.convert("RGB")

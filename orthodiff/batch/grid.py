"""Labelled sheets over two or three axes: prompt, seed, strength, sampler, ..."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from orthodiff.batch.rows.axes import NONE, Axes, cross
from orthodiff.batch.rows.expand import Sources
from orthodiff.batch.rows.files import Written
from orthodiff.batch.rows.row import Row
from orthodiff.errors import UserError, nearest
from orthodiff.evaluation.fonts import font_for
from orthodiff.evaluation.image_grid import GAP, INK, MARGIN, PAPER, draw_caption

AXES = {
    "prompt": "prompt", "seed": "seed", "strength": "strength", "checkpoint": "checkpoint",
    "adapter": "adapter", "steps": "num_inference_steps", "guidance": "guidance_scale",
    "sampler": "sampler",
}  # fmt: skip
"""What an axis may vary, and the field of a row that it sets."""
LABEL = 128
"""Pixels for the labels at the left."""
HEADING = 44
MISSING = (200, 198, 194)


@dataclass(frozen=True)
class Axis:
    """One axis of a grid; `values` are as written."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, written: str) -> Axis:
        """`seed=1,2,3`; prompts are separated by `|`.

        Raises:
            UserError: it is written otherwise, or varies nothing that can be varied.
        """
        name, equals, values = written.partition("=")
        if name not in AXES:
            raise UserError(f"`{name}` cannot be an axis.{nearest(name, AXES)}")
        parts = [each.strip() for each in values.split("|" if name == "prompt" else ",")]
        if not equals or not all(parts):
            example = "prompt=a dog|a cat" if name == "prompt" else f"{name}=1,2,3"
            raise UserError(f"The axis `{written}` has no values. Write for example {example}.")
        return cls(name, tuple(parts))

    def setting(self, value: str) -> dict[str, Any]:
        """What a value sets in a row."""
        if self.name == "adapter" and value == NONE:
            return {"adapter": ()}
        return {AXES[self.name]: value}

    def label(self, value: str) -> str:
        """How a value is written on the sheet."""
        if self.name == "prompt":
            return value
        shown = Path(value).name if self.name == "adapter" else value
        return f"{self.name} {shown}"


def grid_rows(axes: Sequence[Axis], defaults: Mapping[str, Any], sources: Sources) -> list[Row]:
    """A row for every combination; the first axis varies fastest.

    Raises:
        UserError: two axes vary the same, or a value cannot be meant.
    """
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two axes vary `{name}`. Leave one out.")
    written = []
    for values in itertools.product(*(axis.values for axis in reversed(axes))):
        given: dict[str, Any] = dict(defaults)
        for axis, value in zip(reversed(axes), values, strict=True):
            given.update(axis.setting(value))
        if not given.get("prompt"):
            raise UserError("A grid needs a prompt. Add --prompt TEXT, or the axis prompt=A|B.")
        where = ", ".join(a.label(v) for a, v in zip(reversed(axes), values, strict=True))
        written.append(Written(f"grid ({where})", given))
    rows, _ = cross(written, Axes(), sources)
    if len(rows) != len(written):
        raise UserError("A prompt of a grid offers alternatives. Make them an axis: prompt=A|B.")
    return rows


def draw_grid(
    images: Sequence[Image.Image | None], x: Axis, y: Axis | None, *, title: str
) -> Image.Image:
    """A sheet: columns of `x`, rows of `y`, from left to right and top to bottom."""
    side = max([max(image.size) for image in images if image] or [64])
    cell = max(min(side, 512), 128)
    step, left, top = cell + GAP, MARGIN + (LABEL if y else 0), MARGIN + 36 + HEADING
    lines = y.values if y else ("",)
    size = (max(left + len(x.values) * step, 480) + MARGIN, top + len(lines) * step + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    text, font = font_for(title, 18)
    draw.text((MARGIN, MARGIN), text, INK, font)
    for column, value in enumerate(x.values):
        draw_caption(draw, x.label(value), left + column * step, top - HEADING, cell, most=2)
    for row, value in enumerate(lines):
        if y:
            draw_caption(draw, y.label(value), MARGIN, top + row * step, LABEL - GAP, most=6)
        for column in range(len(x.values)):
            image = images[row * len(x.values) + column]
            place = (left + column * step, top + row * step)
            if image is None:
                draw.rectangle((*place, place[0] + cell, place[1] + cell), MISSING)
            else:
                shown = image.resize(_fitted(image.size, cell), Image.Resampling.LANCZOS)
                sheet.paste(shown, place)
    return sheet


def _fitted(size: tuple[int, int], cell: int) -> tuple[int, int]:
    scale = cell / max(size)
    return round(size[0] * scale), round(size[1] * scale)

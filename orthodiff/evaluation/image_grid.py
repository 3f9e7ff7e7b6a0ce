"""Image grids: a contact sheet, base against adapted, and a timeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from orthodiff.evaluation.fonts import font_for
from orthodiff.io.images import square

PAPER = (250, 250, 248)
INK = (32, 33, 36)
MUTED = (110, 112, 118)
ACCENT = (176, 58, 46)
GAP = 8
MARGIN = 24


@dataclass(frozen=True)
class GridRow:
    """One row of a comparison: a label in the left margin and one image per column."""

    label: str
    images: Sequence[Image.Image]
    is_adapted: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a timeline: its heading, images from top to bottom, and what lies beneath."""

    label: str
    images: Sequence[Image.Image]
    caption: str = ""


def contact_sheet(
    images: Iterable[Image.Image], count: int, *, cell: int = 192, multiple: int = 1
) -> Image.Image:
    """`count` images in a near-square grid, each as a square of `cell` pixels a side.

    They are taken one at a time. There are a `multiple` of columns, so that so many neighbours
    stay together.
    """
    columns = math.ceil(math.sqrt(count) / multiple) * multiple
    rows = math.ceil(count / columns)
    step = cell + GAP
    grid = Image.new("RGB", (columns * step + GAP, rows * step + GAP), PAPER)
    for number, image in enumerate(images):
        place = (GAP + number % columns * step, GAP + number // columns * step)
        grid.paste(square(image, step - GAP), place)
    return grid


def comparison(
    *,
    title: str,
    subtitle: str,
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
    rows: Sequence[GridRow],
    cell: int = 144,
) -> Image.Image:
    """The subject's photos on top, if any; below, a column per prompt and a row per model."""
    cell = _cell_side([image for row in rows for image in row.images], cell)
    step, label_width = cell + GAP, 112
    header, prompt_height = 78, 60
    subtitle, font = font_for(subtitle, 15)
    subtitle_width = math.ceil(font.getlength(subtitle))
    width = max(label_width + len(prompts) * step, subtitle_width, 900) + 2 * MARGIN
    groups = sum(1 for row in rows[1:] if not row.is_adapted)
    height = header + prompt_height + len(rows) * step + (groups + 1) * GAP + 2 * MARGIN
    height += step + 2 * GAP if photos else 0
    grid = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(grid)
    _write(draw, (MARGIN, MARGIN), title, INK, 26)
    _write(draw, (MARGIN, MARGIN + 38), subtitle, MUTED, 15)
    top = MARGIN + header
    left = MARGIN + label_width
    if photos:
        _label(draw, "the subject", top, cell)
        for number, photo in enumerate(photos[: len(prompts)]):
            grid.paste(square(photo, cell), (left + number * step, top))
        top += step + 2 * GAP
    draw.line((MARGIN, top, width - MARGIN, top), fill=(214, 214, 210))
    for number, prompt in enumerate(prompts):
        draw_caption(draw, prompt, left + number * step, top + GAP, cell)
    top += prompt_height + GAP
    for index, row in enumerate(rows):
        top += GAP if index and not row.is_adapted else 0
        _label(draw, row.label, top, cell, colour=ACCENT if row.is_adapted else INK)
        for number, image in enumerate(row.images):
            grid.paste(square(image, cell), (left + number * step, top))
        top += step
    return grid


def timeline(
    *,
    title: str,
    subtitle: str,
    prompts: Sequence[str],
    columns: Sequence[Column],
    cell: int = 144,
) -> Image.Image:
    """The same images at several times: a row per prompt, a column per time, scores beneath."""
    cell = _cell_side([image for column in columns for image in column.images], cell)
    step, header, heading, footer, label_width = cell + GAP, 78, 26, 52, 112
    width = label_width + max(len(columns) * step, 560) + 2 * MARGIN
    height = header + heading + len(prompts) * step + footer + 2 * MARGIN
    grid = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(grid)
    _write(draw, (MARGIN, MARGIN), title, INK, 26)
    _write(draw, (MARGIN, MARGIN + 38), subtitle, MUTED, 15)
    top = MARGIN + header
    for row, prompt in enumerate(prompts):
        if prompt not in prompts[:row]:
            draw_caption(
                draw, prompt, MARGIN, top + heading + row * step, label_width - GAP, most=7
            )
    for number, column in enumerate(columns):
        left = MARGIN + label_width + number * step
        _write(draw, (left, top), column.label, INK, 15)
        for row, image in enumerate(column.images):
            grid.paste(square(image, cell), (left, top + heading + row * step))
        beneath = top + heading + len(prompts) * step
        _write(draw, (left, beneath), column.caption, ACCENT, 15)
    return grid


def _cell_side(images: Sequence[Image.Image], least: int) -> int:
    largest = max(max(image.size) for image in images)
    return max(min(largest, 256), least)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    size: int,
    *,
    anchor: str | None = None,
) -> None:
    """Write `text`, which may have several lines, in a font that has its letters."""
    text, font = font_for(text, size)
    draw.multiline_text(place, text, colour, font, anchor=anchor, spacing=3)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    top: int,
    cell: int,
    *,
    colour: tuple[int, int, int] = INK,
) -> None:
    _write(draw, (MARGIN, top + cell // 2), text, colour, 15, anchor="lm")


def draw_caption(
    draw: ImageDraw.ImageDraw, text: str, left: int, top: int, width: int, *, most: int = 3
) -> None:
    """Write `text` in at most `most` lines of `width` pixels."""
    text, font = font_for(text, 14)
    lines = _wrap(text, lambda line: draw.textlength(line, font) <= width)
    draw.multiline_text((left, top), "\n".join(lines[:most]), INK, font, spacing=3)


def _wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Lines that fit: broken at spaces, and within words that are too long for a line.

    Chinese and Japanese have no spaces.
    """
    lines = [""]
    for word in text.split():
        if fits(longer := f"{lines[-1]} {word}".strip()):
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]

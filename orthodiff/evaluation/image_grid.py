"""Sheets of pictures: a contact sheet, and the grid that sets base against adapted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from orthodiff.io.images import square

PAPER = (250, 250, 248)
INK = (32, 33, 36)
MUTED = (110, 112, 118)
ACCENT = (176, 58, 46)
GAP = 8
MARGIN = 24


@dataclass(frozen=True)
class Row:
    """One row of a comparison: a label in the left margin and one picture per column."""

    label: str
    pictures: Sequence[Image.Image]
    is_adapted: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a timeline: its heading, pictures from top to bottom, and what lies beneath."""

    label: str
    pictures: Sequence[Image.Image]
    caption: str = ""


def contact_sheet(
    pictures: Sequence[Image.Image], *, cell: int = 192, multiple: int = 1
) -> Image.Image:
    """All pictures in a near-square sheet; small ones are enlarged to `cell` pixels a side.

    There are a `multiple` of columns, so that so many neighbours stay together.
    """
    columns = math.ceil(math.sqrt(len(pictures)) / multiple) * multiple
    rows = math.ceil(len(pictures) / columns)
    step = _cell_side(pictures, cell) + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * step + GAP), PAPER)
    for number, picture in enumerate(pictures):
        place = (GAP + number % columns * step, GAP + number // columns * step)
        sheet.paste(square(picture, step - GAP), place)
    return sheet


def comparison(
    *,
    title: str,
    subtitle: str,
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
    rows: Sequence[Row],
    cell: int = 144,
) -> Image.Image:
    """The subject's photos on top, if any; below, a column per prompt and a row per model."""
    cell = _cell_side([picture for row in rows for picture in row.pictures], cell)
    step, label_width = cell + GAP, 112
    header, prompt_height = 78, 60
    told = math.ceil(_font(15).getlength(subtitle))
    width = max(label_width + len(prompts) * step, told, 900) + 2 * MARGIN
    groups = sum(1 for row in rows[1:] if not row.is_adapted)
    height = header + prompt_height + len(rows) * step + (groups + 1) * GAP + 2 * MARGIN
    height += step + 2 * GAP if photos else 0
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, _font(26))
    draw.text((MARGIN, MARGIN + 38), subtitle, MUTED, _font(15))
    top = MARGIN + header
    left = MARGIN + label_width
    if photos:
        _label(draw, "the subject", top, cell)
        for number, photo in enumerate(photos[: len(prompts)]):
            sheet.paste(square(photo, cell), (left + number * step, top))
        top += step + 2 * GAP
    draw.line((MARGIN, top, width - MARGIN, top), fill=(214, 214, 210))
    for number, prompt in enumerate(prompts):
        _caption(draw, prompt, left + number * step, top + GAP, cell)
    top += prompt_height + GAP
    for index, row in enumerate(rows):
        top += GAP if index and not row.is_adapted else 0
        _label(draw, row.label, top, cell, colour=ACCENT if row.is_adapted else INK)
        for number, picture in enumerate(row.pictures):
            sheet.paste(square(picture, cell), (left + number * step, top))
        top += step
    return sheet


def timeline(
    *,
    title: str,
    subtitle: str,
    prompts: Sequence[str],
    columns: Sequence[Column],
    cell: int = 144,
) -> Image.Image:
    """The same pictures at several times: a row per prompt, a column per time, scores beneath."""
    cell = _cell_side([picture for column in columns for picture in column.pictures], cell)
    step, header, heading, footer, label_width = cell + GAP, 78, 26, 52, 112
    width = label_width + max(len(columns) * step, 560) + 2 * MARGIN
    height = header + heading + len(prompts) * step + footer + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, _font(26))
    draw.text((MARGIN, MARGIN + 38), subtitle, MUTED, _font(15))
    top = MARGIN + header
    for row, prompt in enumerate(prompts):
        if prompt not in prompts[:row]:
            _caption(draw, prompt, MARGIN, top + heading + row * step, label_width - GAP, most=7)
    for number, column in enumerate(columns):
        left = MARGIN + label_width + number * step
        draw.text((left, top), column.label, INK, _font(15))
        for row, picture in enumerate(column.pictures):
            sheet.paste(square(picture, cell), (left, top + heading + row * step))
        beneath = top + heading + len(prompts) * step
        draw.multiline_text((left, beneath), column.caption, ACCENT, _font(15), spacing=3)
    return sheet


def _cell_side(pictures: Sequence[Image.Image], least: int) -> int:
    largest = max(max(picture.size) for picture in pictures)
    return max(min(largest, 256), least)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    top: int,
    cell: int,
    *,
    colour: tuple[int, int, int] = INK,
) -> None:
    draw.multiline_text((MARGIN, top + cell // 2), text, colour, _font(15), anchor="lm", spacing=3)


def _caption(
    draw: ImageDraw.ImageDraw, text: str, left: int, top: int, width: int, *, most: int = 3
) -> None:
    """Write `text` in at most `most` lines of `width` pixels."""
    font, lines = _font(14), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    draw.multiline_text((left, top), "\n".join(lines[:most]), INK, font, spacing=3)

"""The imagefolder of Hugging Face datasets: images listed in `metadata.jsonl` or `.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orthodiff.errors import FileError, UserError, nearest

from ..masks import mask_of
from .files import decode, inside, tidy
from .folder import name_list, training_images
from .records import (
    DataRequest,
    Listing,
    Record,
    Source,
)

LISTS = ("metadata.jsonl", "metadata.csv")
CAPTIONS = ("text", "prompt", "caption")
CONDITIONS = ("conditioning_image", "conditioning_image_file_name")
MASKS = ("mask", "mask_file_name")
Row = Mapping[str | None, Any]
"""Cells by column; under None what `csv` finds beyond the last one."""
Listed = tuple[str, Row | FileError]
"""Where in the list (`metadata.jsonl line 3`), and what stands there."""


def recognises(folder: Path) -> bool:
    """A folder with such a list in it or, as the hub splits them, in its `train`."""
    return any((place / name).is_file() for place in (folder, folder / "train") for name in LISTS)


def read(folder: Path, request: DataRequest) -> Listing:
    """Every entry of the list; a caption it does not give is the prompt of the run.

    Raises:
        UserError: two lists, one that cannot be read at all, or a column that is not there.
    """
    path = _list_of(folder)
    rows = list(_csv(path) if path.suffix == ".csv" else _jsonl(path))
    _check_columns(rows, request, path)
    listing, seen = Listing("an imagefolder"), set[str]()
    for where, row in rows:
        try:
            record = _record(where, row, path.parent, request, seen)
        except FileError as problem:
            listing.problems.append(problem)
        else:
            listing.records.append(record)
    unlisted = [p.name for p in training_images(path.parent) if p.name not in seen]
    if unlisted:
        used = {r.control_image for r in listing.records} | {r.mask for r in listing.records}
        unlisted = [name for name in unlisted if path.parent / name not in used]
    if unlisted:
        listing.remarks.append(f"{name_list(unlisted)}: not in `{path.name}`, left out.")
    return listing


def _list_of(folder: Path) -> Path:
    there = [p for place in (folder, folder / "train") for n in LISTS if (p := place / n).is_file()]
    if len(there) > 1 and there[0].parent == there[1].parent:
        raise UserError(
            f"`{there[0].parent}` holds both {there[0].name} and {there[1].name}. Remove one."
        )
    return there[0]


def _jsonl(path: Path) -> Iterator[Listed]:
    for number, line in enumerate(_content(path).splitlines(), start=1):
        where = f"{path.name} line {number}"
        if line.strip():
            yield where, _json_row(line, where)


def _json_row(line: bytes, where: str) -> Row | FileError:
    try:
        row = json.loads(decode(line, name=where, what="entry"))
    except FileError as problem:
        return problem
    except (ValueError, RecursionError) as error:
        return FileError(where, f"it is not JSON ({error})", "Correct the line", what="entry")
    if not isinstance(row, Mapping):
        return FileError(where, "it is not a JSON object", "Correct the line", what="entry")
    return row


def _csv(path: Path) -> Iterator[Listed]:
    text = decode(_content(path), name=path.name, what="list")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield f"{path.name} line {reader.line_num}", row
    except csv.Error as error:
        where = f"{path.name} line {reader.line_num}"
        yield where, FileError(where, f"it is not CSV ({error})", "Correct the line", what="entry")


def _content(path: Path) -> bytes:
    try:
        return inside(path.parent, path.name, what="list").read_bytes()
    except OSError as error:
        raise FileError(path.name, error.strerror or str(error), what="list") from error


def _check_columns(rows: list[Listed], request: DataRequest, path: Path) -> None:
    """Refuse columns asked for that no entry has, and lists that name no files.

    Raises:
        UserError: naming the column and those that are there.
    """
    there = [row for _, row in rows if not isinstance(row, FileError)]
    names = list(dict.fromkeys(name for row in there for name in row if name is not None))
    wanted = request.columns
    for name in ("file_name", wanted.caption, wanted.control_image, wanted.mask):
        if name and names and name not in names:
            raise UserError(f"`{path}` has no column `{name}`.{nearest(name, map(str, names))}")


def _record(
    where: str, row: Row | FileError, folder: Path, request: DataRequest, seen: set[str]
) -> Record:
    if isinstance(row, FileError):
        raise row
    columns = request.columns
    name = _text(row, ("file_name",), where)
    if not name:
        raise FileError(where, "it names no file_name", "Add it, or remove the line", what="entry")
    image = inside(folder, name)
    if name in seen:
        raise FileError(where, f"`{name}` is listed already", "Remove the line", what="entry")
    seen.add(name)
    _check_width(row, where)
    caption = tidy(_text(row, _names(columns.caption, CAPTIONS), where), name=where)
    mask = _file(row, _names(columns.mask, MASKS), where, folder)
    return Record(
        name=name,
        image=image,
        caption=caption or request.caption,
        has_own_caption=bool(caption),
        mask=mask or mask_of(image, folder, request.mask_dir),
        control_image=_file(row, _names(columns.control_image, CONDITIONS), where, folder),
    )


def _check_width(row: Row, where: str) -> None:
    """Refuse a row of a CSV whose caption would be cut at a comma.

    Raises:
        FileError: naming the row.
    """
    if any(cell.strip() for cell in row.get(None, ())):
        reason = "it has more cells than there are columns"
        raise FileError(where, reason, "Put the caption in quotes", what="entry")


def _names(asked: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return (asked,) if asked else default


def _text(row: Row, names: tuple[str, ...], where: str) -> str:
    """The first of these columns that says something.

    Raises:
        FileError: what it says is no text.
    """
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise FileError(where, f"its {name} is not text", "Correct the line", what="entry")
        if value:
            return value
    return ""


def _file(row: Row, names: tuple[str, ...], where: str, folder: Path) -> Source | None:
    name = _text(row, names, where)
    return inside(folder, name, what=names[0].replace("_", " ")) if name else None

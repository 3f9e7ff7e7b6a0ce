"""Files of prompts: TXT with kohya's suffixes, CSV, JSONL or YAML, each row with its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orthodiff.batch.rows.row import FIELDS, canonical_row
from orthodiff.errors import UserError, nearest

SUFFIXES = {
    "n": "negative_prompt", "w": "width", "h": "height", "d": "seed", "l": "guidance_scale",
    "s": "num_inference_steps",
}  # fmt: skip
"""Kohya's options at the end of a line, such as `--n blurry --w 512 --s 30`."""
_SUFFIX = re.compile(r"\s--(?=[A-Za-z])")


@dataclass(frozen=True)
class Written:
    """A row as a file has it: where, and its fields by `Row`'s names."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class PromptFile:
    """What a file holds: rows, named lists for `$name`, and sentences about lines left out."""

    rows: list[Written]
    lists: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def read_prompts(path: Path, *, skip_bad: bool = False) -> PromptFile:
    """Read a file of prompts; with `skip_bad` lines that cannot be read are left out and named.

    Raises:
        UserError: it cannot be read, or a line is bad, naming line and field; or no row is left.
    """
    readers = {
        ".txt": _txt, ".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".json": _yaml,
        ".yaml": _yaml, ".yml": _yaml,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"`prompts` is `{path}`, whose ending is none of {', '.join(readers)}. Rename it."
        )
    lists: dict[str, list[str]] = {}
    rows, skipped = [], []
    for where, given in reader(_text(path), path, lists):
        try:
            rows.append(Written(where, _checked(given, where)))
        except UserError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if not rows:
        raise UserError(f"`{path}` holds no prompts. Write one per line.")
    return PromptFile(rows, lists, skipped)


Found = Iterator[tuple[str, Any]]
"""Place and content of each row; a `UserError` as content is raised where rows are checked."""


def _checked(given: Any, where: str) -> dict[str, Any]:
    if isinstance(given, UserError):
        raise UserError(f"{where}: {given}")
    try:
        values = canonical_row(given)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    for name in values:
        if name not in FIELDS:
            raise UserError(f"{where}: `{name}` is not a known field.{nearest(name, FIELDS)}")
    if not values.get("prompt"):
        raise UserError(f"{where}: `prompt` is missing. Every row needs one.")
    return values


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"`prompts` is `{path}`, which cannot be read ({error.strerror}). Check the path."
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"`{path}` line {line}: it is not UTF-8. Save the file as UTF-8."
        ) from error


def _txt(text: str, path: Path, lists: dict[str, list[str]]) -> Found:
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        yield f"`{path}` line {number}", _suffixes(line)


def _suffixes(line: str) -> dict[str, Any] | UserError:
    prompt, *options = _SUFFIX.split(line)
    values: dict[str, Any] = {"prompt": prompt}
    for option in options:
        letter, _, value = option.partition(" ")
        name = SUFFIXES.get(letter, letter if letter in FIELDS else None)
        if name is None:
            return UserError(f"`--{letter}` is not a known option.{nearest(letter, SUFFIXES)}")
        if not value.strip():
            return UserError(f"`--{letter}` has no value.")
        if name in values:
            return UserError(f"`--{letter}` is given twice.")
        several = name == "seed" and "," in value
        values[name] = [each.strip() for each in value.split(",")] if several else value
    return values


def _csv(text: str, path: Path, lists: dict[str, list[str]]) -> Found:
    header = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                continue
            where = f"`{path}` line {reader.line_num}"
            excess = f"it has {len(cells)} cells, but the header has {len(names)}. Quote its text."
            fits = len(cells) <= len(names)
            yield where, dict(zip(names, cells, strict=False)) if fits else UserError(excess)
    except csv.Error as error:
        raise UserError(f"`{path}` line {reader.line_num}: {error}. Correct it.") from error


def _jsonl(text: str, path: Path, lists: dict[str, list[str]]) -> Found:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"`{path}` line {number}"
        try:
            yield where, _as_row(json.loads(line))
        except (ValueError, RecursionError) as error:
            yield where, UserError(f"it is not JSON ({error}). Correct it.")


def _yaml(text: str, path: Path, lists: dict[str, list[str]]) -> Found:
    """A list of rows, or `rows:` with `lists:` (for `$name`) and `defaults:` (of every row)."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"`{path}` is not YAML ({' '.join(str(error).split())}).") from error
    defaults: dict[str, Any] = {}
    if isinstance(content, dict) and "rows" in content:
        if unknown := set(content) - {"rows", "lists", "defaults"}:
            name = sorted(map(str, unknown))[0]
            raise UserError(
                f"`{path}`: `{name}` is not known.{nearest(name, ('rows', 'lists', 'defaults'))}"
            )
        defaults = content.get("defaults") or {}
        for name, values in (content.get("lists") or {}).items():
            lists[str(name)] = [str(value) for value in values]
        content = content["rows"]
    if not isinstance(content, list):
        raise UserError(f"`{path}` must be a list of rows, or `rows:` with such a list.")
    for number, given in enumerate(content, start=1):
        row = _as_row(given)
        where = f"`{path}` row {number}"
        yield where, row if isinstance(row, UserError) else {**defaults, **row}


def _as_row(given: Any) -> dict[str, Any] | UserError:
    if isinstance(given, str):
        return {"prompt": given}
    if isinstance(given, dict):
        return {str(name): value for name, value in given.items()}
    return UserError(f"it is {given!r}, but a prompt or fields with names are due.")

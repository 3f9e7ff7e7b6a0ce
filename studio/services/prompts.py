"""Prompt files that people bring: read by the reader of `orthodiff generate --prompts`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.batch.rows.axes import Axes, cross
from orthodiff.batch.rows.expand import Sources
from orthodiff.batch.rows.files import Written, read_prompts
from orthodiff.errors import UserError

from .settings.batch import FIELDS, MOST_IMAGES, MOST_PROMPTS

MOST_BYTES = 1 << 20
SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".yaml", ".yml")
MOST_PROBLEMS = 20
"""Sentences about bad rows that are shown; further ones are counted."""


@dataclass(frozen=True)
class PromptRows:
    """The good rows of a file, its named lists, how many images they make, and the bad rows."""

    rows: Sequence[Mapping[str, Any]]
    lists: Mapping[str, Sequence[str]]
    images: int
    problems: Sequence[str]


def read_prompt_file(name: str, content: bytes, scratch: Path) -> PromptRows:
    """Read what somebody brought under a name, row by row; bad rows become sentences.

    Raises:
        UserError: it is too large, of no known kind, or holds no good row.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"`{name}` is no prompt file. Its name must end in {', '.join(SUFFIXES)}.")
    if len(content) > MOST_BYTES:
        raise UserError(f"`{name}` is larger than {MOST_BYTES >> 20} MB. Split it.")
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        path = Path(place) / f"prompts{suffix}"
        path.write_bytes(content)
        try:
            file = read_prompts(path, skip_bad=True)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from error
    problems = [sentence.replace(str(path), name) for sentence in file.skipped]
    rows, images, more = _usable(file.rows, Sources(file.lists), (str(path), name))
    problems += more
    if not rows:
        raise UserError(" ".join(problems[:3]) or f"`{name}` holds no prompts.")
    if len(rows) > MOST_PROMPTS:
        raise UserError(f"`{name}` has {len(rows):,} rows. Give at most {MOST_PROMPTS:,} at once.")
    return PromptRows(rows, file.lists, images, _shortened(problems))


def check_row(values: Mapping[str, Any]) -> None:
    """Refuse what a row may not say here: other fields could name files of this computer.

    Raises:
        UserError: naming the field.
    """
    for field, value in values.items():
        if field not in FIELDS:
            known = ", ".join(FIELDS)
            raise UserError(f"`{field}` cannot be set from a file on this page. It takes {known}.")
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in several):
            raise UserError(f"`{field}` must be a text, a number, or a list of them.")


def _usable(
    written: Sequence[Written], sources: Sources, renamed: tuple[str, str]
) -> tuple[list[Mapping[str, Any]], int, list[str]]:
    rows, images, problems = [], 0, []
    for one in written:
        where = one.where.replace(*renamed)
        try:
            check_row(one.values)
            made, _ = cross([_named(one)], Axes(), sources, limit=MOST_IMAGES)
        except UserError as error:
            sentence = str(error).replace(*renamed)
            problems.append(sentence if sentence.startswith(where) else f"{where}: {sentence}")
        else:
            rows.append(one.values)
            images += len(made)
    return rows, images, problems


def _named(one: Written) -> Written:
    """The row with any words for its trigger: which they are depends on the adapter."""
    texts = {
        name: str(one.values[name]) for name in ("prompt", "negative_prompt") if name in one.values
    }
    named = {name: text.replace("{trigger}", "it") for name, text in texts.items()}
    return Written(one.where, {**one.values, **named})


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - MOST_PROBLEMS
    return problems if more <= 0 else [*problems[:MOST_PROBLEMS], f"{more} more rows like these."]

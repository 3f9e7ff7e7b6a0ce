"""The examples to train on: listed, looked at, and remembered, so that the next start need not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from orthodiff.errors import FileError, UserError
from orthodiff.io.atomic import can_be_written
from orthodiff.io.hashing import content_key
from orthodiff.io.images import DECODER, read_size

from .dataset import Examples, Inspect, OpenedImages, facts_of, image_source, open_record
from .fingerprint import changed_at, fingerprint_of
from .masks import check_in_sight
from .readers.layouts import find
from .readers.records import DataRequest, Listing, Record
from .table import (
    MASK,
    NOTHING,
    OWN_CAPTION,
    PRIOR,
    ImageFacts,
    ImageTable,
    load_table,
    save_table,
)
from .views import Views

MAX_NAMED = 5
T = TypeVar("T")


def usable_examples(
    request: DataRequest,
    *,
    skip_bad_files: bool = False,
    is_prior: bool = False,
    inspect: Inspect | None = None,
    conclude: Callable[[], Sequence[str]] = tuple,
    about: str = "",
    cache_dir: Path | None = None,
    remember: bool = True,
) -> Examples:
    """The examples to train on, as many as fit memory opened to see that they can be.

    `inspect` looks at each that is opened, and `conclude` says what is worth a remark after all.
    What was found out is kept in `cache_dir` for the next start, under what `inspect` is `about`:
    while no file of the place changes, none is opened again. Without `remember` it is only read.

    Raises:
        UserError: there are none, or some cannot be used and shall not be skipped (all are named).
    """
    before = fingerprint_of(request) if cache_dir else None
    path = table_path(cache_dir, request, f"{skip_bad_files} {is_prior} {about}")
    known = load_table(path) if path and before else None
    if known and before and known[1] == before.sum:
        return _known_examples(known[0], request, is_prior=is_prior, inspect=inspect)
    examples = _looked_at(
        request,
        known[0] if known else None,
        skip_bad_files=skip_bad_files,
        is_prior=is_prior,
        inspect=inspect,
    )
    examples.remarks = [*examples.remarks, *conclude()]
    if remember and path and before and before.is_settled and can_be_written(path.parent):
        save_table(replace(examples.table, remarks=tuple(examples.remarks)), path, before.sum)
    return examples


def _known_examples(
    table: ImageTable, request: DataRequest, *, is_prior: bool, inspect: Inspect | None
) -> Examples:
    """Those of a table; where they lie is asked for when one has to be opened after all."""

    def records() -> list[Record]:
        by_name = {record.name: record for record in find(request).records}
        return [by_name[table[row].name] for row in range(len(table))]

    return Examples(
        records,
        request,
        is_prior=is_prior,
        remarks=table.remarks,
        table=table,
        inspect=inspect,
    )


def _looked_at(
    request: DataRequest,
    known: ImageTable | None,
    *,
    skip_bad_files: bool,
    is_prior: bool,
    inspect: Inspect | None,
) -> Examples:
    """The examples of a place, but those already `known` opened as long as there is room."""
    listing, quick = find(request), replace(request, subject_mask=False)
    opened, unchanged = OpenedImages(), _Unchanged(known)

    def facts(record: Record) -> ImageFacts:
        if inspect is None and (same := unchanged.facts(record, is_prior=is_prior)):
            return same
        size = read_size(image_source(record), name=record.name)
        if not opened.has_room(size):  # the rest is opened when it is encoded
            return facts_of(record, is_prior=is_prior, size=size)
        example = open_record(record, quick, is_prior=is_prior, inspect=inspect)
        opened.add(example)
        return facts_of(record, is_prior=is_prior, size=example.image.size)

    usable, problems = sift(listing, facts)
    names = {row.name for row in usable}
    examples = Examples(
        [record for record in listing.records if record.name in names],
        request,
        is_prior=is_prior,
        remarks=listing.remarks,
        table=ImageTable.of(usable),
        inspect=inspect,
        opened=opened,
    )
    return _usable(examples, problems, skip_bad_files=skip_bad_files)


class _Unchanged:
    """The rows of an earlier look whose files have not changed since."""

    def __init__(self, table: ImageTable | None) -> None:
        self.table = table
        self.rows = {table[row].name: row for row in range(len(table))} if table else {}

    def facts(self, record: Record, *, is_prior: bool) -> ImageFacts | None:
        """What is known of an image without a mask or a control image."""
        row = self.rows.get(record.name)
        if self.table is None or row is None or not isinstance(record.image, Path):
            return None
        if record.mask is not None or record.control_image is not None:
            return None
        known, status = self.table[row], record.image.stat()
        is_same = (known.changed, known.length) == (changed_at(status), status.st_size)
        if not is_same or (known.mask, known.control_image) != (NOTHING, NOTHING):
            return None
        flags = OWN_CAPTION * record.has_own_caption + PRIOR * is_prior
        return replace(known, caption=record.caption, repeats=record.repeats, flags=flags)


def table_path(cache_dir: Path | None, request: DataRequest, about: str) -> Path | None:
    if cache_dir is None:
        return None
    place = request.folder or Path(request.dataset or "")
    key = content_key(f"{place.resolve()}", repr(request), about, DECODER)
    return cache_dir / "tables" / f"{key[:32]}.safetensors"


def in_sight(examples: Examples, views: Views, *, skip_bad_files: bool = False) -> Examples:
    """Those of which `views` show some of what the mask says to learn.

    Raises:
        UserError: there are others, which shall not be skipped (all are named), or no such.
    """
    flags = examples.table.columns["flags"]
    masked = np.ones(len(flags), bool) if examples.request.alpha_mask else (flags & MASK) != 0
    problems: dict[int, FileError] = {}
    for row in np.flatnonzero(masked).tolist():
        example = examples.opened.get(examples.table[row].name)
        if example is None:  # too many to be opened ahead: seen to when it is encoded
            continue
        try:
            check_in_sight(example.name, example.mask, example.image.size, views)
        except FileError as problem:
            problems[row] = problem
    if not problems:
        return examples
    shown = examples.select([row for row in range(len(examples)) if row not in problems])
    return _usable(shown, list(problems.values()), skip_bad_files=skip_bad_files)


def sift(listing: Listing, use: Callable[[Record], T]) -> tuple[list[T], list[FileError]]:
    """What `use` makes of each record, and what cannot be used."""
    usable, problems = [], list(listing.problems)
    for record in listing.records:
        try:
            usable.append(use(record))
        except FileError as problem:
            problems.append(problem)
    return usable, problems


def refusal(problems: Sequence[FileError], place: str) -> str:
    """Why some files stop a training, in a sentence with what to do."""
    if len(problems) == 1:
        return f"{problems[0]} Or add --skip_bad_files to train without it."
    named = ", ".join(f"`{problem.name}` ({problem.reason})" for problem in problems[:MAX_NAMED])
    more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
    return (
        f"{len(problems)} files of `{place}` cannot be used: {named}{more}. Replace or remove "
        "them, or add --skip_bad_files to train without them."
    )


def _usable(usable: Examples, problems: Sequence[FileError], *, skip_bad_files: bool) -> Examples:
    """The `usable` examples, if those with `problems` may be left out."""
    place = usable.request.place
    if problems and not skip_bad_files:
        raise UserError(refusal(problems, place))
    if not len(usable):
        raise UserError(f"None of the {len(problems)} images of `{place}` can be used.")
    usable.remarks = [*usable.remarks, *(f"Left out: {problem}" for problem in problems)]
    return usable

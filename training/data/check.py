"""A report on data before any training: what is there, what cannot be used, what could be better.

A training refuses the same files by the same function, and the studio shows the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from orthodiff.errors import FileError, UserError

from .advice import RULES, Advice, Survey
from .dataset import Examples, Inspect, OpenedImages, facts_of, open_record
from .image_stats import ImageStats, measure_image
from .masks import check_in_sight
from .readers.layouts import find
from .readers.records import DataRequest, Listing, Record
from .table import MASK, ImageFacts, ImageTable
from .views import Views

MAX_NAMED = 5
T = TypeVar("T")


@dataclass(frozen=True)
class DataReport:
    """What was found at `place`: the usable images' `images`, the `problems`, and `advice`."""

    place: str
    layout: str
    resolution: int
    images: list[ImageStats]
    problems: list[FileError]
    advice: list[Advice]

    @property
    def is_usable(self) -> bool:
        """Whether every file can be used."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values; shares are 0..1, sizes `[width, height]`."""
        return {
            "place": self.place,
            "layout": self.layout,
            "resolution": self.resolution,
            "usable": self.is_usable,
            "pictures": [_picture(seen) for seen in self.images],
            "problems": [
                {"file": p.name, "reason": p.reason, "remedy": p.remedy, "text": str(p)}
                for p in self.problems
            ],
            "advice": [
                {"about": a.about, "files": list(a.files), "text": a.text} for a in self.advice
            ],
        }


def check(
    request: DataRequest,
    *,
    views: Views,
    trigger: str | None = None,
    inspect: Inspect | None = None,
    tokenizers: Sequence[Any] = (),
) -> DataReport:
    """Look at everything `request` leads to, as `views` will show it, and `inspect` it.

    Raises:
        UserError: there is nothing to look at.
    """
    return report_on(
        find(request),
        request,
        views=views,
        trigger=trigger,
        inspect=inspect,
        tokenizers=tokenizers,
    )


def report_on(
    listing: Listing,
    request: DataRequest,
    *,
    views: Views,
    trigger: str | None,
    inspect: Inspect | None = None,
    tokenizers: Sequence[Any] = (),
) -> DataReport:
    """Look at every image that was found."""
    images, problems = _sift(
        listing, lambda record: measure_image(record, request, views, inspect=inspect)
    )
    survey = Survey(images, request, views.resolution, trigger, tokenizers)
    remarks = [Advice("left_out", (), text) for text in listing.remarks]
    advice = [*remarks, *(told for rule in RULES for told in rule(survey))]
    return DataReport(request.place, listing.layout, views.resolution, images, problems, advice)


def usable_examples(
    request: DataRequest,
    *,
    skip_bad_files: bool = False,
    is_prior: bool = False,
    inspect: Inspect | None = None,
) -> Examples:
    """The examples to train on, each opened once to see that it can be, and `inspect`ed.

    Raises:
        UserError: there are none, or some cannot be used and shall not be skipped (all are named).
    """
    listing, quick = find(request), replace(request, subject_mask=False)
    opened = OpenedImages()

    def facts(record: Record) -> ImageFacts:
        if opened.is_full:  # the rest is opened when it is encoded
            return facts_of(record, is_prior=is_prior)
        example = open_record(record, quick, is_prior=is_prior, inspect=inspect)
        opened.add(example)
        return facts_of(record, is_prior=is_prior, size=example.image.size)

    usable, problems = _sift(listing, facts)
    names = {row.name for row in usable}
    every = Examples(
        [record for record in listing.records if record.name in names],
        request,
        is_prior=is_prior,
        remarks=listing.remarks,
        table=ImageTable.of(usable),
        inspect=inspect,
        opened=opened,
    )
    return _usable(every, problems, skip_bad_files=skip_bad_files)


def _usable(usable: Examples, problems: Sequence[FileError], *, skip_bad_files: bool) -> Examples:
    """The `usable` examples, if those with `problems` may be left out."""
    place = usable.request.place
    if problems and not skip_bad_files:
        raise UserError(_refusal(problems, place))
    if not len(usable):
        raise UserError(f"None of the {len(problems)} images of `{place}` can be used.")
    usable.remarks = [*usable.remarks, *(f"Left out: {problem}" for problem in problems)]
    return usable


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


def _sift(listing: Listing, use: Callable[[Record], T]) -> tuple[list[T], list[FileError]]:
    """What `use` makes of each record, and what cannot be used."""
    made, problems = [], list(listing.problems)
    for record in listing.records:
        try:
            made.append(use(record))
        except FileError as problem:
            problems.append(problem)
    return made, problems


def _refusal(problems: Sequence[FileError], place: str) -> str:
    if len(problems) == 1:
        return f"{problems[0]} Or add --skip_bad_files to train without it."
    told = ", ".join(f"`{problem.name}` ({problem.reason})" for problem in problems[:MAX_NAMED])
    more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
    return (
        f"{len(problems)} files of `{place}` cannot be used: {told}{more}. Replace or remove them, "
        "or add --skip_bad_files to train without them."
    )


def _picture(seen: ImageStats) -> dict[str, Any]:
    record = seen.record
    return {
        "file": record.name,
        "size": list(seen.size),
        "caption": record.caption,
        "own_caption": record.has_own_caption,
        "repeats": record.repeats,
        "mask": seen.has_mask,
        "condition": seen.has_control_image,
        "cropped": round(seen.cropped, 4),
        "sharpness": round(seen.sharpness, 1),
    }

"""A report on data before any training: what is there, what cannot be used, what could be better.

A training refuses the same files by the same function, and the studio shows the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from orthodiff.errors import FileError, UserError

from .advice import RULES, Advice, Survey
from .dataset import Examples, open_record
from .example import Example
from .image_stats import ImageStats, measure_image
from .masks import check_in_sight
from .readers.layouts import find
from .readers.records import DataRequest, Listing, Record
from .views import Views

MAX_NAMED = 5
T = TypeVar("T")
Inspect = Callable[[Example], None]
"""Refuses an example by a FileError."""


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

    def opened(record: Record) -> Record:
        example = open_record(record, quick)
        if inspect:
            inspect(example)
        return record

    records, problems = _sift(listing, opened)
    every = Examples(listing.records, request, is_prior=is_prior, remarks=listing.remarks)
    return _usable(every, records, problems, skip_bad_files=skip_bad_files)


def _usable(
    every: Examples,
    records: Sequence[Record],
    problems: Sequence[FileError],
    *,
    skip_bad_files: bool,
) -> Examples:
    """The `records` of `every` without `problems`, if those may be skipped."""
    place = every.request.place
    if problems and not skip_bad_files:
        raise UserError(_refusal(problems, place))
    if not records:
        raise UserError(f"None of the {len(problems)} images of `{place}` can be used.")
    remarks = [*every.remarks, *(f"Left out: {problem}" for problem in problems)]
    return Examples(records, every.request, is_prior=every.is_prior, remarks=remarks)


def in_sight(examples: Examples, views: Views, *, skip_bad_files: bool = False) -> Examples:
    """Those of which `views` show some of what the mask says to learn.

    Raises:
        UserError: there are others, which shall not be skipped (all are named), or no such.
    """
    request = replace(examples.request, subject_mask=False)

    def seen(record: Record) -> Record:
        if record.mask or request.alpha_mask:
            example = open_record(record, request)
            check_in_sight(record.name, example.mask, example.image.size, views)
        return record

    records, problems = _sift(Listing("", list(examples.records)), seen)
    return _usable(examples, records, problems, skip_bad_files=skip_bad_files)


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

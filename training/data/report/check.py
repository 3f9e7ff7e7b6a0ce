"""A report on data before any training: what is there, what cannot be used, what could be better.

A training refuses the same files by the same function, and the studio shows the same report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orthodiff.errors import FileError

from ..dataset import Inspect
from ..readers.layouts import find
from ..readers.records import DataRequest, Listing
from ..usable import sift
from ..views import Views
from .advice import RULES, Advice, Survey
from .image_stats import ImageStats, measure_image


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
            "pictures": [_image(seen) for seen in self.images],
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
    images, problems = sift(
        listing, lambda record: measure_image(record, request, views, inspect=inspect)
    )
    survey = Survey(images, request, views.resolution, trigger, tokenizers)
    remarks = [Advice("left_out", (), text) for text in listing.remarks]
    advice = [*remarks, *(item for rule in RULES for item in rule(survey))]
    return DataReport(request.place, listing.layout, views.resolution, images, problems, advice)


def _image(seen: ImageStats) -> dict[str, Any]:
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

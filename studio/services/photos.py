"""The example subjects that come with orthodiff, and what `check` says about photos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orthodiff.io.images import find_images
from orthodiff.training.cli.check import PIXELS_PER_LATENT
from orthodiff.training.data.readers.records import DataRequest, Listing, Record
from orthodiff.training.data.report.check import report_on
from orthodiff.training.data.report.words import cropping, summary
from orthodiff.training.options import DataOptions


@dataclass(frozen=True)
class ExampleSubject:
    """A subject with its images, ready to train on."""

    name: str
    class_word: str
    images: tuple[Path, ...]


def read_examples(folder: Path) -> dict[str, ExampleSubject]:
    """The subjects of `folder` by name; sub-folders without a `subject.json` are left out."""
    examples = {}
    for path in sorted(folder.glob("*/subject.json")):
        entry = json.loads(path.read_text("utf-8"))
        name = path.parent.name
        images = tuple(find_images(path.parent))
        examples[name] = ExampleSubject(name, entry.get("class", name), images)
    return examples


def check_photos(
    folder: Path, names: Mapping[str, str], *, resolution: int
) -> tuple[dict[str, str], list[str]]:
    """What `orthodiff check` says: problems by file, and a summary with advice.

    `names` are the files of `folder` with what their owner calls them.
    """
    records = [
        Record(name, folder / file, caption="the prompt of the run") for file, name in names.items()
    ]
    views = DataOptions().views(resolution, factor=PIXELS_PER_LATENT, seed=0)
    report = report_on(Listing("photos", records), DataRequest(), views=views, trigger=None)
    of_name = {name: file for file, name in names.items()}
    problems = {of_name.get(problem.name, ""): problem.reason for problem in report.problems}
    for advice in report.advice:
        for name in advice.files:
            problems.setdefault(of_name.get(name, ""), advice.plain)
    seen = f"{summary(report)}; at {resolution} pixels {cropping(report)}." if report.images else ""
    return problems, [line for line in (seen, *(advice.plain for advice in report.advice)) if line]

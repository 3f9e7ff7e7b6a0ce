"""What every kind of job is made from, and what it leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters import Adapters
from ..photos import ExampleSubject
from ..uploads.subjects import Subjects


@dataclass(frozen=True)
class Offer:
    """What there is to work with: bases, example subjects, uploads and adapters."""

    bases: Sequence[str]
    examples: Mapping[str, ExampleSubject]
    subjects: Subjects
    adapters: Adapters


@dataclass(frozen=True)
class Prepared:
    """A checked job to be. Nothing has been written; `fill` writes all it needs into a folder.

    `fill` gets the folder to write into and the one it will have, and gives the command's words;
    none for images, which the sampling process makes from their plan.
    """

    name: str
    request: Mapping[str, Any]
    fill: Callable[[Path, Path], Sequence[str]]


@dataclass(frozen=True)
class Photos:
    """Images to learn from: files, captions and control images where there are any, what they show.

    `captions` and `controls` are empty, or have an entry for each file.
    """

    files: Sequence[Path]
    captions: Sequence[str] = field(default=())
    controls: Sequence[Path | None] = field(default=())
    class_word: str = ""
    source: str = ""


def base_title(name: str) -> str:
    """What a base is called: the last part of its path or hub id."""
    return Path(name).name or name

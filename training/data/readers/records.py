"""What readers are asked for and what they find: images listed, but not yet opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orthodiff.errors import FileError

Source = Path | Callable[[], bytes | None]
"""A file, or a way to get what would be in one; None where there is nothing after all."""


@dataclass(frozen=True)
class Columns:
    """Names of columns; None takes the usual ones that are there."""

    image: str | None = None
    caption: str | None = None
    control_image: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class DataRequest:
    """Where the data are: a `folder`, or a `dataset` (hub id or path); `caption` where none is.

    With `streaming` a dataset is read as it comes and not copied to this computer.
    """

    folder: Path | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    columns: Columns = field(default_factory=Columns)
    caption: str = ""
    mask_dir: Path | None = None
    alpha_mask: bool = False
    subject_mask: bool = False
    streaming: bool = field(default=False, repr=False)  # it changes no image

    @property
    def place(self) -> str:
        """What messages call it."""
        return str(self.folder or self.dataset)


@dataclass(frozen=True)
class Record:
    """An image that was found, by the `name` that messages use, with all that is told of it."""

    name: str
    image: Source
    caption: str
    has_own_caption: bool = False
    mask: Source | None = None
    control_image: Source | None = None
    repeats: int = 1


@dataclass(frozen=True)
class Listing:
    """What one reader made of a place: records, entries that cannot be used, and remarks."""

    layout: str
    records: list[Record] = field(default_factory=list)
    problems: list[FileError] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

"""Columns of tables that list images: found by name, and those nobody reads are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orthodiff.errors import UserError, nearest

from .folder import name_list
from .records import Columns


@dataclass(frozen=True)
class ColumnKind:
    """What a column may hold, the names it has unless another is asked for, and that flag."""

    defaults: tuple[str, ...]
    flag: str


IMAGE = ColumnKind(("image",), "image_column")
FILE_NAME = ColumnKind(("file_name",), "image_column")
CAPTION = ColumnKind(("text", "prompt", "caption"), "caption_column")
CONTROL_IMAGE = ColumnKind(
    ("conditioning_image", "conditioning_image_file_name"), "conditioning_image_column"
)
MASK = ColumnKind(("mask", "mask_file_name"), "mask_column")


def choose_columns(
    there: Sequence[str], asked: Columns, *, place: str, image: ColumnKind
) -> dict[str, tuple[str, ...]]:
    """The columns that hold each kind of thing, the first to be read first; perhaps none.

    Raises:
        UserError: one that was asked for is not there.
    """
    requested = {
        "image": (image, asked.image),
        "caption": (CAPTION, asked.caption),
        "control_image": (CONTROL_IMAGE, asked.control_image),
        "mask": (MASK, asked.mask),
    }
    return {name: _choose(there, kind, own, place) for name, (kind, own) in requested.items()}


def unread_columns(texts: Iterable[str], chosen: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A remark on columns of text that are not read; captions may be in one of them."""
    read = {column for columns in chosen.values() for column in columns}
    unread = [name for name in texts if name not in read]
    if not unread:
        return []
    captions = chosen["caption"]
    if captions:
        return [f"{name_list(unread)}: columns that are not read."]
    known = ", ".join(CAPTION.defaults)
    return [
        f"{name_list(unread)}: not read, and no column has captions ({known}). Name the one that "
        "has with --caption_column."
    ]


def _choose(
    there: Sequence[str], kind: ColumnKind, asked: str | None, place: str
) -> tuple[str, ...]:
    """The columns of these names; capitals count only where two differ in nothing else."""
    names = (asked,) if asked else kind.defaults
    folded = {name.casefold(): name for name in reversed(there)}
    columns = [name if name in there else folded.get(name.casefold()) for name in names]
    if asked and columns == [None]:
        raise UserError(
            f"{place} has no column `{asked}`.{nearest(asked, there)} Name the right one with "
            f"--{kind.flag}."
        )
    return tuple(dict.fromkeys(name for name in columns if name is not None))

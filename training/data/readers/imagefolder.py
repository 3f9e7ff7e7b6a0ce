"""The imagefolder of Hugging Face datasets: images listed in `metadata.jsonl` or `.csv`."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orthodiff.errors import FileError, UserError

from .columns import FILE_NAME, choose_columns, unread_columns
from .files import decode_text, path_within, tidy
from .folder import name_list
from .mask_files import MaskFinder
from .records import DataRequest, Listing, Record
from .scan import scan_folder

LISTS = ("metadata.jsonl", "metadata.csv")
DELIMITERS = ",;\t"
Row = Mapping[str | None, Any]
"""Cells by column; under None what `csv` finds beyond the last one."""
Entry = tuple[str, Row | FileError]
"""Where in the list (`metadata.jsonl line 3`), and what stands there."""


def recognises(folder: Path) -> bool:
    """A folder with such a list in it or, as the hub splits them, in its `train`."""
    return any((place / name).is_file() for place in (folder, folder / "train") for name in LISTS)


def read(folder: Path, request: DataRequest) -> Listing:
    """Every entry of the list; a caption it does not give is the prompt of the run.

    Raises:
        UserError: two lists, one that cannot be read at all, or a column that is not there.
    """
    path = _list_of(folder)
    entries = list(_csv(path) if path.suffix == ".csv" else _jsonl(path))
    table = _Table(path, entries, request)
    listing = Listing("an imagefolder")
    for where, row in entries:
        try:
            listing.records.append(table.record(where, row))
        except FileError as problem:
            listing.problems.append(problem)
    listing.remarks.extend(table.remarks())
    return listing


class _Table:
    """Makes records of the rows of one list, and remembers which files they name."""

    def __init__(self, path: Path, entries: list[Entry], request: DataRequest) -> None:
        self.path, self.folder, self.fallback = path, path.parent, request.caption
        self.scan = scan_folder(self.folder)
        self.masks = MaskFinder(self.folder, request.mask_dir)
        self.names: set[str] = set()
        self.layers: set[str] = set()
        rows = [row for _, row in entries if not isinstance(row, FileError)]
        there = list(dict.fromkeys(name for row in rows for name in row if name is not None))
        self.columns = choose_columns(
            there, request.columns, place=f"`{path}`", image=FILE_NAME
        ) if rows else {}  # fmt: skip
        if rows and not self.columns["image"]:
            hint = f"It has {name_list(there)}" if there else "It is empty"
            raise UserError(f"`{path}` has no column `file_name`. {hint}.")
        self.texts = [name for name in there if any(isinstance(r.get(name), str) for r in rows)]

    def record(self, where: str, row: Row | FileError) -> Record:
        """The image that a row names.

        Raises:
            FileError: the row, or a file that it names, cannot be used.
        """
        if isinstance(row, FileError):
            raise row
        written = self._text(row, "image", where)
        if not written:
            reason = "it names no file_name"
            raise FileError(where, reason, "Add it, or remove the line", what="entry")
        image, name = self._file(written)
        if name in self.names:
            reason = f"`{name}` is listed already"
            raise FileError(where, reason, "Remove the line", what="entry")
        self.names.add(name)
        _check_width(row, where)
        caption = tidy(self._text(row, "caption", where), name=where)
        return Record(
            name=name,
            image=image,
            caption=caption or self.fallback,
            has_own_caption=bool(caption),
            mask=self._layer(row, "mask", where) or self._found_mask(image),
            control_image=self._layer(row, "control_image", where),
        )

    def remarks(self) -> list[str]:
        """What lies there, or stands there, and is not read."""
        unread = unread_columns(self.texts, self.columns) if self.columns else []
        unlisted = [n for n in self.scan.images if n not in self.names | self.layers]
        if not unlisted:
            return unread
        return [f"{name_list(unlisted)}: not in `{self.path.name}`, left out.", *unread]

    def _found_mask(self, image: Path) -> Path | None:
        own = image.parent == self.folder
        scan = self.scan if own else scan_folder(image.parent)
        return self.masks.find(image, beside=scan.masks.get(image.stem))

    def _layer(self, row: Row, kind: str, where: str) -> Path | None:
        written = self._text(row, kind, where)
        if not written:
            return None
        path, name = self._file(written, what=self.columns[kind][0].replace("_", " "))
        self.layers.add(name)
        return path

    def _file(self, written: str, *, what: str = "image") -> tuple[Path, str]:
        """The file that is meant, and its path in the folder in the one usual spelling.

        Raises:
            FileError: it leads out of the folder, or is not there.
        """
        written = _spelled(self.folder, written)
        path_within(self.folder, written, what=what)
        path = Path(os.path.normpath(self.folder / written))
        parent = path.parent.resolve()
        root = self.folder.resolve()
        name = parent / path.name
        if not name.is_relative_to(root):  # a link to a folder of the hub's cache
            return path, path.name
        relative = name.relative_to(root)
        return self.folder / relative, relative.as_posix()

    def _text(self, row: Row, kind: str, where: str) -> str:
        """The first column of this kind that says something.

        Raises:
            FileError: what it says is no text.
        """
        for name in self.columns[kind]:
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                reason = f"its {name} is not text"
                raise FileError(where, reason, "Correct the line", what="entry")
            if value:
                return value
        return ""


def _spelled(folder: Path, written: str) -> str:
    """The path as this system spells it: backslashes are Windows', parted accents macOS'."""
    forms = [written, written.replace("\\", "/")]
    forms += [unicodedata.normalize(form, path) for form in ("NFC", "NFD") for path in forms]
    try:
        return next((path for path in forms if (folder / path).exists()), written)
    except (OSError, ValueError):
        return written


def _list_of(folder: Path) -> Path:
    there = [p for place in (folder, folder / "train") for n in LISTS if (p := place / n).is_file()]
    if len(there) > 1 and there[0].parent == there[1].parent:
        raise UserError(
            f"`{there[0].parent}` holds both {there[0].name} and {there[1].name}. Remove one."
        )
    return there[0]


def _jsonl(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(_content(path).splitlines(), start=1):
        where = f"{path.name} line {number}"
        if line.strip():
            yield where, _json_row(line, where)


def _json_row(line: bytes, where: str) -> Row | FileError:
    try:
        row = json.loads(decode_text(line, name=where, what="entry"))
    except FileError as problem:
        return problem
    except (ValueError, RecursionError) as error:
        return FileError(where, f"it is not JSON ({error})", "Correct the line", what="entry")
    if not isinstance(row, Mapping):
        return FileError(where, "it is not a JSON object", "Correct the line", what="entry")
    return row


def _csv(path: Path) -> Iterator[Entry]:
    text = decode_text(_content(path), name=path.name, what="list")
    file = io.StringIO(text, newline="")
    reader = csv.DictReader(file, strict=True, delimiter=_delimiter(text))
    try:
        for row in reader:
            yield f"{path.name} line {reader.line_num}", row
    except csv.Error as error:
        where = f"{path.name} line {reader.line_num}"
        yield where, FileError(where, f"it is not CSV ({error})", "Correct the line", what="entry")


def _delimiter(text: str) -> str:
    """What parts the names of the columns: spreadsheets of some languages write semicolons."""
    header = text.partition("\n")[0]
    return max(DELIMITERS, key=lambda mark: (header.count(mark), -DELIMITERS.index(mark)))


def _content(path: Path) -> bytes:
    try:
        return path_within(path.parent, path.name, what="list").read_bytes()
    except OSError as error:
        raise FileError(path.name, error.strerror or str(error), what="list") from error


def _check_width(row: Row, where: str) -> None:
    """Refuse a row of a CSV whose caption would be cut at a comma.

    Raises:
        FileError: naming the row.
    """
    if any(cell.strip() for cell in row.get(None, ())):
        reason = "it has more cells than there are columns"
        raise FileError(where, reason, "Put the caption in quotes", what="entry")

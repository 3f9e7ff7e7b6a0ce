"""A dataset of the `datasets` library: a hub id, or a local path of Parquet, Arrow or images."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from orthodiff.errors import FileError, UserError, first_line
from orthodiff.io import hub

from .columns import IMAGE, choose_columns, unread_columns
from .files import tidy
from .folder import name_list
from .parquet import ParquetRows, parquet_files
from .records import DataRequest, Listing, Record, Source
from .streamed import StreamedRows

SAVED = ("dataset_info.json", "dataset_dict.json")
SPLIT = "train"


def recognises(folder: Path) -> bool:
    """A folder written by `save_to_disk`, or one with Parquet files in it or in its `data`."""
    saved = any((folder / name).is_file() for name in SAVED)
    return saved or _holds_parquet(folder)


def read(folder: Path, request: DataRequest) -> Listing:
    """Every row of the dataset in a folder.

    Raises:
        UserError: `datasets` is missing, the dataset cannot be read, or it has no such column.
    """
    return read_dataset(str(folder), request)


def read_dataset(name: str, request: DataRequest) -> Listing:
    """Every row of the training split of the dataset `name`; images stay unread until opened.

    Raises:
        UserError: `datasets` is missing, the dataset cannot be read, or it has no such column.
    """
    rows = _open(name, request.dataset_config, streaming=request.streaming)
    there = rows.column_names
    chosen = choose_columns(there, request.columns, place=f"The dataset `{name}`", image=IMAGE)
    if not chosen["image"]:
        raise UserError(
            f"The dataset `{name}` has no column `image`. It has {name_list(there)}. "
            "Name the one with the images with --image_column."
        )
    kinds = {kind: columns[0] for kind, columns in chosen.items() if columns}
    for column in (column for kind, column in kinds.items() if kind != "caption"):
        if not rows.is_image(column):
            raise UserError(
                f"The column `{column}` of the dataset `{name}` does not hold images. Name one "
                "that does (--image_column, --conditioning_image_column, --mask_column)."
            )
    listing = Listing("a dataset")
    texts = [column for column in there if rows.is_text(column)]
    listing.remarks.extend(unread_columns(texts, chosen))
    captions = rows.column(kinds["caption"]) if "caption" in kinds else [None] * len(rows)
    for number, text in enumerate(captions):
        cells = {kind: _Cell(rows, number, column, name) for kind, column in kinds.items()}
        try:
            listing.records.append(_record(number, text, cells, request.caption))
        except FileError as problem:
            listing.problems.append(problem)
    return listing


class ImageRows(Protocol):
    """What is asked of a table of images."""

    def __len__(self) -> int: ...

    @property
    def column_names(self) -> list[str]: ...

    def column(self, name: str) -> list[Any]:
        """All values of a column that is small."""

    def is_text(self, name: str) -> bool: ...

    def is_image(self, name: str) -> bool: ...

    def cell(self, number: int, name: str) -> dict[str, Any]:
        """`bytes` and `path` of an image, as far as they are there."""


class DatasetRows:
    """The rows of a dataset as the `datasets` library has them in its cache."""

    def __init__(self, rows: Any) -> None:
        from datasets import Image

        # images as bytes: they are opened like all others, with the same checks
        self._images = {n for n, feature in rows.features.items() if isinstance(feature, Image)}
        for name in self._images:
            rows = rows.cast_column(name, Image(decode=False))
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def column_names(self) -> list[str]:
        return list(self._rows.column_names)

    def column(self, name: str) -> list[Any]:
        return list(self._rows[name])

    def is_text(self, name: str) -> bool:
        return getattr(self._rows.features[name], "dtype", None) in ("string", "large_string")

    def is_image(self, name: str) -> bool:
        return name in self._images

    def cell(self, number: int, name: str) -> dict[str, Any]:
        return self._rows[number][name] or {}


def _open(name: str, config: str | None, *, streaming: bool) -> ImageRows:
    """Parquet files in place where that is all there is, else what `datasets` makes of a name."""
    if streaming:
        return _streamed(name, config)
    folder = Path(name)
    saved = any((folder / file).is_file() for file in SAVED)
    if config is None and not saved and folder.is_dir() and _holds_parquet(folder):
        if find_spec("pyarrow") is None:
            raise UserError(
                f"The Parquet files of `{name}` need the package pyarrow, which is not installed. "
                "Install it (pip install pyarrow), or give a folder of images."
            )
        return ParquetRows(folder, parquet_files(folder))
    return DatasetRows(_load(name, config))


def _holds_parquet(folder: Path) -> bool:
    return any(folder.glob("*.parquet")) or any(folder.glob("data/*.parquet"))


def _streamed(name: str, config: str | None) -> StreamedRows:
    rows = _load(name, config, streaming=True)
    try:
        return StreamedRows(name, rows)
    except Exception as error:  # the first rows are read here, from whatever the files hold
        raise UserError(
            f"The dataset `{name}` cannot be streamed: {first_line(error)}. Check its files, or "
            "leave out --streaming."
        ) from error


def _load(name: str, config: str | None, *, streaming: bool = False) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"The dataset `{name}` needs the package datasets, which is not installed. "
            "Install it (pip install datasets), or give a folder of images."
        ) from error
    datasets.disable_progress_bars()
    why = None
    try:
        if any((Path(name) / saved).is_file() for saved in SAVED):
            if streaming:
                raise UserError(
                    f"The dataset `{name}` was written by `save_to_disk`, which is read in place "
                    "and cannot be streamed. Leave out --streaming."
                )
            rows = datasets.load_from_disk(name)
            if not isinstance(rows, datasets.DatasetDict):
                return rows
            if SPLIT not in rows:
                raise UserError(
                    f"The dataset `{name}` has no part `{SPLIT}`, but {', '.join(rows)}. Save the "
                    "one to learn from alone, and give its folder."
                )
            return rows[SPLIT]
        why = hub.trouble(name, kind="dataset")
        with hub.offline() if why else nullcontext():
            return datasets.load_dataset(name, config, split=SPLIT, streaming=streaming)
    except UserError:
        raise
    except Exception as error:  # the library raises whatever files and networks make it raise
        reason = f"it is not here, and {why}" if why else first_line(error)
        raise UserError(
            f"The dataset `{name}` cannot be read: {reason}. Check its id or path, and its "
            "configuration (--dataset_config_name)."
        ) from error


def _record(number: int, text: Any, cells: Mapping[str, Source], fallback: str) -> Record:
    name = f"row {number}"
    if text is not None and not isinstance(text, str):
        raise FileError(name, "its caption is not text", "Name another --caption_column")
    caption = tidy(text or "", name=name)
    return Record(
        name=name,
        image=cells["image"],
        caption=caption or fallback,
        has_own_caption=bool(caption),
        mask=cells.get("mask"),
        control_image=cells.get("control_image"),
    )


@dataclass(frozen=True)
class _Cell:
    """Gets the bytes of one image when it is called."""

    rows: ImageRows
    number: int
    column: str
    dataset: str

    def __call__(self) -> bytes | None:
        """The file's content; None if the cell is empty.

        Raises:
            FileError: it leads to a file that is none of the dataset's.
        """
        cell = self.rows.cell(self.number, self.column) or {}
        if cell.get("bytes"):
            return bytes(cell["bytes"])
        return self._own(Path(cell["path"])).read_bytes() if cell.get("path") else None

    def _own(self, path: Path) -> Path:
        """A file of the dataset's folder, or of the caches that hub datasets are kept in."""
        homes = [self.dataset]
        if find_spec("datasets"):
            from datasets.config import HF_DATASETS_CACHE
            from huggingface_hub.constants import HF_HUB_CACHE

            homes += [str(HF_DATASETS_CACHE), HF_HUB_CACHE]
        if not any(path.resolve().is_relative_to(Path(home).resolve()) for home in homes):
            reason = "it leads to a file outside the dataset"
            raise FileError(f"row {self.number}", reason, "Remove the row")
        return path

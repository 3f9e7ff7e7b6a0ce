"""Parquet files in place: a group of rows is read when one of its images is, and nothing is copied.

The `datasets` library would first write all of it anew into its own cache.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orthodiff.errors import FileError, UserError, first_line

from .files import path_within
from .folder import name_list

OTHER_SPLITS = re.compile(
    r"(?<![a-z])(validation|valid|dev|val|test|testing|eval|evaluation)(?![a-z])"
)
TRAIN = re.compile(r"(?<![a-z])(train|training)(?![a-z])")


def parquet_files(folder: Path) -> list[Path]:
    """Those of the training split in a folder and its `data`, told by their names."""
    files = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    train = [path for path in files if TRAIN.search(path.name.lower())]
    return train or [path for path in files if not OTHER_SPLITS.search(path.name.lower())]


class ParquetRows:
    """The rows of some Parquet files, one after the other.

    Raises:
        UserError: one cannot be read, or has other columns than the first.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        from pyarrow import parquet

        self.folder, self.place = folder, str(folder)
        if not files:
            raise UserError(
                f"`{folder}` holds Parquet files of other splits alone. Name one so that `train` "
                "is in its name."
            )
        try:
            for path in files:
                path_within(folder, path.relative_to(folder), what="file")
            self._files = [parquet.ParquetFile(path, memory_map=True) for path in files]
        except FileError:
            raise
        except Exception as error:  # pyarrow raises whatever a damaged file makes it raise
            raise UserError(
                f"The dataset `{folder}` cannot be read: {first_line(error)}. Check its files."
            ) from error
        self.schema = self._files[0].schema_arrow
        for path, file in zip(files, self._files, strict=True):
            if file.schema_arrow.names != self.schema.names:
                there = name_list(file.schema_arrow.names)
                raise UserError(
                    f"`{path.name}` has other columns ({there}) than `{files[0].name}`. Give them "
                    "the same ones."
                )
        self._groups: list[tuple[int, int]] = []
        self._starts: list[int] = []
        self._count = 0
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                self._groups.append((number, group))
                self._starts.append(self._count)
                self._count += file.metadata.row_group(group).num_rows
        self._loaded: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def column(self, name: str) -> list[Any]:
        """All values of a column that is small."""
        return [v for file in self._files for v in file.read(columns=[name])[name].to_pylist()]

    def is_text(self, name: str) -> bool:
        import pyarrow as pa

        kind = self.schema.field(name).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def is_image(self, name: str) -> bool:
        """Bytes, or the bytes and path that `datasets` writes."""
        import pyarrow as pa

        kind = self.schema.field(name).type
        if pa.types.is_struct(kind):
            return "bytes" in [kind.field(number).name for number in range(kind.num_fields)]
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def cell(self, number: int, name: str) -> dict[str, Any]:
        """`bytes` and `path` of an image, as far as they are there."""
        place = bisect_right(self._starts, number) - 1
        if self._loaded is None or self._loaded[0] != place:
            file, group = self._groups[place]
            images = [column for column in self.column_names if self.is_image(column)]
            self._loaded = place, self._files[file].read_row_group(group, columns=images)
        value = self._loaded[1][name][number - self._starts[place]].as_py()
        return value if isinstance(value, dict) else {"bytes": value}

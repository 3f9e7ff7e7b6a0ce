"""The rows of a dataset that is streamed: read as they come, and never stored as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orthodiff.errors import UserError, first_line


class StreamedRows:
    """The rows of an `IterableDataset` by number, read forwards.

    Rows asked for in order, as encoding does, are read once. Going back begins a new stream, which
    skips to the row; whatever files it can pass over are not read. Texts are a stream of their own,
    of which Parquet files give the one column alone.
    """

    def __init__(self, name: str, rows: Any) -> None:
        from datasets import Image

        self.name = name
        rows = rows if rows.features is not None else rows._resolve_features()
        self._features = rows.features
        self._images = {n for n, feature in self._features.items() if _holds_images(feature)}
        if any(isinstance(feature, Image) for feature in self._features.values()):
            rows = rows.decode(False)  # images as bytes: they are opened like all others
        self._rows = rows
        self._stream: Iterator[dict[str, Any]] = iter(())
        self._number, self._row = -1, dict[str, Any]()
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            splits = self._rows.info.splits or {}
            declared = getattr(splits.get(str(self._rows.split)), "num_examples", None)
            self._length = declared or sum(1 for _ in self._rows.select_columns(self._smallest()))
        return self._length

    @property
    def column_names(self) -> list[str]:
        return list(self._features)

    def column(self, name: str) -> list[Any]:
        """All values of a column that is small."""
        with self._reading():
            values = [row[name] for row in self._rows.select_columns([name])]
        self._length = len(values)
        return values

    def is_text(self, name: str) -> bool:
        return getattr(self._features[name], "dtype", None) in ("string", "large_string")

    def is_image(self, name: str) -> bool:
        return name in self._images

    def cell(self, number: int, name: str) -> dict[str, Any]:
        """`bytes` and `path` of an image, as far as they are there."""
        with self._reading():
            if number < self._number or self._number < 0:
                self._stream = iter(self._rows.skip(number))
                self._number = number - 1
            while self._number < number:
                self._row = next(self._stream)
                self._number += 1
        value = self._row[name]
        cell = value if isinstance(value, dict) else {"bytes": value}
        path = str(cell.get("path") or "")
        if not cell.get("bytes") and path.startswith(f"hf://datasets/{self.name}@"):
            return {"bytes": self._download(path)}  # others are refused like files elsewhere
        return cell

    def _download(self, path: str) -> bytes:
        """A file of this dataset on the hub."""
        import fsspec

        with self._reading(), fsspec.open(path, "rb") as file:
            content: bytes = file.read()
        return content

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raises:
        UserError: what is read is not there any more, is damaged, or cannot be reached.
        """
        try:
            yield
        except Exception as error:  # whatever networks and files make the library raise
            self._number = -1  # the stream is broken: the next row begins another
            raise UserError(
                f"The dataset `{self.name}` broke off while it was streamed "
                f"({type(error).__name__}: {first_line(error)}). Start again: what was encoded is "
                "in the cache."
            ) from error

    def _smallest(self) -> list[str]:
        """A column that costs little to count by."""
        return [next((n for n in self.column_names if n not in self._images), self.column_names[0])]


def _holds_images(feature: Any) -> bool:
    """An image of `datasets`, or bytes, or the bytes and path that it writes."""
    from datasets import Image

    is_plain = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return (
        isinstance(feature, Image) or is_plain or (isinstance(feature, dict) and "bytes" in feature)
    )

"""What a run must know of every image without opening it: a table of columns, mapped from a file.

A million images are 100 MB of numbers and their names, instead of as many Python objects.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.io.atomic import share_file
from orthodiff.io.hashing import content_key
from orthodiff.io.safetensors import read_tensors

FORMAT = "1"
OWN_CAPTION, MASK, CONTROL_IMAGE, PRIOR = 1, 2, 4, 8
"""Flags of a row."""
NOTHING = hashlib.sha256(b"").digest()
"""The sum over no content."""
LAYERS = ("mask", "control_image")


@dataclass(frozen=True)
class ImageFacts:
    """One row: SHA-256 of the contents of image, mask and control image, and the image's size.

    `changed` (nanoseconds) and `length` (bytes) are the file's, zeros where there is none.
    """

    name: str
    caption: str
    image: bytes
    size: tuple[int, int]
    mask: bytes = NOTHING
    control_image: bytes = NOTHING
    repeats: int = 1
    flags: int = 0
    changed: int = 0
    length: int = 0

    @property
    def sum(self) -> str:
        """What a run that goes on must find unchanged, as checkpoints have always kept it."""
        contents = (self.image, self.mask, self.control_image)
        return content_key(*(c.hex() for c in contents), self.caption, str(self.repeats))[:16]


@dataclass(frozen=True)
class ImageTable:
    """Rows of `ImageFacts`, in order; `remarks` say what was found and left out."""

    columns: Mapping[str, np.ndarray]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["size"])

    def __getitem__(self, row: int) -> ImageFacts:
        columns = self.columns
        width, height = columns["size"][row].tolist()
        return ImageFacts(
            self._text("names", row),
            self._text("captions", row),
            columns["image"][row].tobytes(),
            (width, height),
            mask=self._layer("mask", row),
            control_image=self._layer("control_image", row),
            repeats=int(columns["repeats"][row]),
            flags=int(columns["flags"][row]),
            changed=int(columns["changed"][row]),
            length=int(columns["length"][row]),
        )

    @property
    def repeats(self) -> np.ndarray:
        """How often an epoch sees each row."""
        return self.columns["repeats"]

    @property
    def sizes(self) -> np.ndarray:
        """Width and height of each image."""
        return self.columns["size"]

    def select(self, rows: Sequence[int] | slice) -> ImageTable:
        """Some of the rows."""
        every = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows, int)
        if len(every) == len(self) and (np.diff(every) == 1).all():
            return self
        return ImageTable.of([self[row] for row in every.tolist()], remarks=self.remarks)

    @classmethod
    def of(cls, facts: Iterable[ImageFacts], *, remarks: Sequence[str] = ()) -> ImageTable:
        """The rows that are given."""
        builder = _Builder()
        for row in facts:
            builder.add(row)
        return cls(builder.columns(), tuple(remarks))

    def with_captions_over(self, letters: int, *, most: int = 10_000) -> list[ImageFacts]:
        """The first rows whose captions may have more than so many letters."""
        lengths = np.diff(self.columns["captions_at"])  # in bytes, of which a letter has some
        return [self[row] for row in np.flatnonzero(lengths > letters)[:most].tolist()]

    def digest(self) -> str:
        """A sum over everything in the table but times, in order."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(set(self.columns) - {"changed", "length"}):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.columns[name]).data)
        return digest.hexdigest()

    def sums(self) -> list[list[str]]:
        """Name and sum of every row, in order."""
        names = (self._text("names", row) for row in range(len(self)))
        each = (content.tobytes().hex() for content in self.columns["sums"])
        return [[name, content] for name, content in zip(names, each, strict=True)]

    def captions(self) -> Iterator[str]:
        """That of every row, in order."""
        return (self._text("captions", row) for row in range(len(self)))

    def _layer(self, name: str, row: int) -> bytes:
        return self.columns[name][row].tobytes() if name in self.columns else NOTHING

    def _text(self, column: str, row: int) -> str:
        start, end = self.columns[f"{column}_at"][row : row + 2].tolist()
        return self.columns[column][start:end].tobytes().decode(errors="surrogateescape")


@dataclass
class _Builder:
    """Collects rows as columns: no object a row is kept."""

    texts: dict[str, bytearray] = field(
        default_factory=lambda: {"names": bytearray(), "captions": bytearray()}
    )
    ends: dict[str, array[int]] = field(
        default_factory=lambda: {"names": array("q", [0]), "captions": array("q", [0])}
    )
    contents: dict[str, bytearray] = field(
        default_factory=lambda: {n: bytearray() for n in ("image", *LAYERS)}
    )
    sums: bytearray = field(default_factory=bytearray)
    numbers: array[int] = field(default_factory=lambda: array("q"))

    def add(self, facts: ImageFacts) -> None:
        for column, text in (("names", facts.name), ("captions", facts.caption)):
            self.texts[column] += text.encode(errors="surrogateescape")
            self.ends[column].append(len(self.texts[column]))
        for column, content in self.contents.items():
            content += getattr(facts, column)
        self.sums += bytes.fromhex(facts.sum)
        self.numbers.extend((*facts.size, facts.repeats, facts.flags, facts.changed, facts.length))

    def columns(self) -> dict[str, np.ndarray]:
        numbers = np.array(self.numbers, np.int64).reshape(-1, 6)
        texts = {name: np.frombuffer(bytes(text), np.uint8) for name, text in self.texts.items()}
        ends = {f"{name}_at": np.array(ends, np.int64) for name, ends in self.ends.items()}
        nothing = NOTHING * len(numbers)
        contents = {
            name: np.frombuffer(bytes(content), np.uint8).reshape(-1, 32)
            for name, content in self.contents.items()
            if name not in LAYERS or content != nothing
        }
        return {
            **texts,
            **ends,
            **contents,
            "sums": np.frombuffer(bytes(self.sums), np.uint8).reshape(-1, 8),
            "size": numbers[:, :2].astype(np.int32),
            "repeats": numbers[:, 2].astype(np.int32),
            "flags": numbers[:, 3].astype(np.uint8),
            "changed": numbers[:, 4].copy(),
            "length": numbers[:, 5].copy(),
        }


def save_table(table: ImageTable, path: Path, fingerprint: str) -> None:
    """Write a table as it is for a place of this `fingerprint`."""
    tensors = {name: _as_tensor(column) for name, column in table.columns.items()}
    metadata = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "remarks": json.dumps(table.remarks),
        "digest": table.digest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    share_file(path, save(tensors, metadata=metadata))


def load_table(path: Path) -> tuple[ImageTable, str] | None:
    """A table that was saved, mapped, and the fingerprint of its place; None if it is not whole."""
    try:
        tensors, metadata = read_tensors(path)
        table = ImageTable(
            {name: tensor.numpy() for name, tensor in tensors.items()},
            tuple(json.loads(metadata["remarks"])),
        )
        is_whole = metadata["format"] == FORMAT and metadata["digest"] == table.digest()
        return (table, metadata["fingerprint"]) if is_whole else None
    except (UserError, KeyError, ValueError):
        return None


def _as_tensor(column: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(column))

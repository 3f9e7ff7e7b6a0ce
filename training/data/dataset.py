"""Records become examples, one at a time when they are asked for: a dataset need not fit memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from orthodiff.errors import FileError
from orthodiff.io.images import open_control_image, open_layers, read_size

from .example import Example
from .fingerprint import changed_at
from .masks import check_bright, check_shape, subject_mask
from .readers.records import DataRequest, Record, Source
from .table import CONTROL_IMAGE, MASK, NOTHING, OWN_CAPTION, PRIOR, ImageFacts, ImageTable

SMALLEST = 16
"""Pixels a side."""
OPENED_AHEAD = 1 << 29
"""Bytes of pixels that are kept from the first look until they are encoded."""

Inspect = Callable[[Example], None]
"""Refuses an example by a FileError."""


class Examples(Sequence[Example]):
    """Opens a record when it is asked for; `request` says which masks are wanted.

    `remarks` say what was found, but left out, a sentence each. `inspect` sees each example that
    is opened. A `table` that is known already spares a look at the files, and then the records
    too are only listed where somebody asks for them.

    Raises:
        FileError: on access, when the image, its mask or its control image cannot be used.
    """

    def __init__(
        self,
        records: Sequence[Record] | Callable[[], Sequence[Record]],
        request: DataRequest,
        *,
        is_prior: bool = False,
        remarks: Sequence[str] = (),
        table: ImageTable | None = None,
        inspect: Inspect | None = None,
        opened: OpenedImages | None = None,
    ) -> None:
        self._records, self.request, self.is_prior = records, request, is_prior
        self.remarks, self.inspect = remarks, inspect
        self._table, self.opened = table, opened or OpenedImages()

    @cached_property
    def records(self) -> Sequence[Record]:
        """Where each image lies."""
        return self._records() if callable(self._records) else self._records

    @cached_property
    def table(self) -> ImageTable:
        """What is known of each image without opening it."""
        if self._table is not None:
            return self._table
        facts = (facts_of(record, is_prior=self.is_prior) for record in self.records)
        return ImageTable.of(facts, remarks=self.remarks)

    def __len__(self) -> int:
        return len(self.records) if self._table is None else len(self._table)

    @property
    def samples_per_epoch(self) -> int:
        """How many an epoch sees, repeats counted."""
        if self._table is None:
            return sum(record.repeats for record in self.records)
        return int(self._table.repeats.sum())

    def select(self, rows: Sequence[int] | slice) -> Examples:
        """Some of them."""

        def records() -> Sequence[Record]:
            if isinstance(rows, slice):
                return self.records[rows]
            return [self.records[row] for row in rows]

        return Examples(
            records if callable(self._records) else records(),
            self.request,
            is_prior=self.is_prior,
            remarks=self.remarks,
            table=None if self._table is None else self._table.select(rows),
            inspect=self.inspect,
            opened=self.opened,
        )

    def drawn(self, count: int | None, *, seed: int) -> Examples:
        """At most `count` of them in their order, those that `datasets` draws with this seed."""
        if count is None or count >= len(self):
            return self
        return self.select(
            sorted(np.random.default_rng(seed).permutation(len(self))[:count].tolist())
        )

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return self.select(index)
        record = self.records[index]
        example = self.opened.get(record.name)
        if example is None:
            return open_record(record, self.request, is_prior=self.is_prior, inspect=self.inspect)
        return _with_subject_mask(example, self.request)

    def close(self) -> None:
        """Let go of images that were opened ahead."""
        self.opened.clear()


class OpenedImages:
    """Examples by name that were opened ahead, no more than fit `room` bytes."""

    def __init__(self, room: int = OPENED_AHEAD) -> None:
        self.room = room
        self._examples: dict[str, Example] = {}

    def has_room(self, size: tuple[int, int]) -> bool:
        """Whether an image of that size, with a mask and a control image, may be kept as well."""
        return self.room >= 7 * size[0] * size[1]

    def add(self, example: Example) -> None:
        """Keep an example."""
        layers = (example.image, example.mask, example.control_image)
        self.room -= sum(
            layer.width * layer.height * len(layer.getbands()) for layer in layers if layer
        )
        self._examples[example.name] = example

    def add_if_room(self, example: Example) -> None:
        """Keep an example, unless it would be too many."""
        if self.has_room(example.image.size):
            self.add(example)

    def get(self, name: str) -> Example | None:
        return self._examples.get(name)

    def clear(self) -> None:
        self._examples.clear()


def open_record(
    record: Record,
    request: DataRequest,
    *,
    is_prior: bool = False,
    inspect: Inspect | None = None,
) -> Example:
    """Open an image with its mask and its control image.

    Raises:
        FileError: one of them cannot be used.
    """
    image, alpha = open_layers(image_source(record), name=record.name)
    example = complete(record, request, image, alpha, is_prior=is_prior)
    if inspect:
        inspect(example)
    return example


def complete(
    record: Record,
    request: DataRequest,
    image: Image.Image,
    alpha: Image.Image | None,
    *,
    is_prior: bool = False,
) -> Example:
    """An opened image with its mask and its control image.

    Raises:
        FileError: one of them cannot be used.
    """
    _check_size(record, image.size)
    return Example(
        name=record.name,
        image=image,
        caption=record.caption,
        mask=_mask(record, request, image, alpha),
        control_image=_layer(record.control_image, record, image.size, what="control image"),
        is_prior=is_prior,
        repeats=record.repeats,
    )


def facts_of(
    record: Record, *, is_prior: bool = False, size: tuple[int, int] | None = None
) -> ImageFacts:
    """What must be known of an image; its `size` is read from its header if it is not given.

    Raises:
        FileError: a file is not there, or is no image.
    """
    content = _bytes(record.image)
    if content is None:
        raise FileError(record.name, "it is empty", "Remove it")
    size = size or read_size(content, name=record.name)
    _check_size(record, size)
    mask, control_image = _sum(record.mask), _sum(record.control_image)
    flags = OWN_CAPTION * record.has_own_caption + PRIOR * is_prior
    status = record.image.stat() if isinstance(record.image, Path) else None
    return ImageFacts(
        record.name,
        record.caption,
        hashlib.sha256(content).digest(),
        size,
        mask=mask or NOTHING,
        control_image=control_image or NOTHING,
        repeats=record.repeats,
        flags=flags + MASK * (mask is not None) + CONTROL_IMAGE * (control_image is not None),
        changed=changed_at(status) if status else 0,
        length=len(content),
    )


def image_source(record: Record) -> Path | bytes:
    """The file to open, or what would be in it.

    Raises:
        FileError: there is nothing.
    """
    content = _content(record.image)
    if content is None:
        raise FileError(record.name, "it is empty", "Remove it")
    return content


def _content(source: Source | None) -> Path | bytes | None:
    return source() if callable(source) else source


def _bytes(source: Source | None) -> bytes | None:
    content = _content(source)
    return content.read_bytes() if isinstance(content, Path) else content


def _sum(source: Source | None) -> bytes | None:
    content = _bytes(source)
    return None if content is None else hashlib.sha256(content).digest()


def _check_size(record: Record, size: tuple[int, int]) -> None:
    if min(size) < SMALLEST:
        reason = f"it has only {size[0]} x {size[1]} pixels"
        raise FileError(record.name, reason, "Take a larger version, or remove it")


def _layer(
    source: Source | None, record: Record, size: tuple[int, int], *, what: str
) -> Image.Image | None:
    """The mask or the control image given with an image of that `size`; transparent is black."""
    content = _content(source)
    if content is None:
        return None
    layer = open_control_image(content, name=f"{what} of {record.name}")
    check_shape(layer, size, name=record.name, what=what)
    return layer


def _mask(
    record: Record, request: DataRequest, image: Image.Image, alpha: Image.Image | None
) -> Image.Image | None:
    """Given as a file, else the opacity, else found by itself, if that is wanted."""
    given = _layer(record.mask, record, image.size, what="mask")
    if given is not None:
        mask = given.convert("L").resize(image.size, Image.Resampling.BILINEAR)
    elif request.alpha_mask and alpha is not None:
        mask = alpha
    elif request.subject_mask:
        mask = subject_mask(image)
    else:
        return None
    check_bright(record.name, mask)
    return mask


def _with_subject_mask(example: Example, request: DataRequest) -> Example:
    """Opened ahead without the mask that takes a model to find."""
    if example.mask is not None or not request.subject_mask:
        return example
    mask = subject_mask(example.image)
    check_bright(example.name, mask)
    return Example(**{**vars(example), "mask": mask})

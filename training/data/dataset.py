"""Records become examples, one at a time when they are asked for: a dataset need not fit memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from orthodiff.errors import FileError
from orthodiff.io.images import open_layers, open_map

from .example import Example
from .masks import check_bright, check_shape, subject_mask
from .readers.records import DataRequest, Record, Source

SMALLEST = 16
"""Pixels a side."""


class Examples(Sequence[Example]):
    """Opens a record each time it is asked for; `request` says which masks are wanted.

    `remarks` say what was found, but left out, a sentence each.

    Raises:
        FileError: on access, when the image, its mask or its condition cannot be used.
    """

    def __init__(
        self,
        records: Sequence[Record],
        request: DataRequest,
        *,
        is_prior: bool = False,
        remarks: Sequence[str] = (),
    ) -> None:
        self.records, self.request, self.is_prior = records, request, is_prior
        self.remarks = remarks

    def __len__(self) -> int:
        return len(self.records)

    @property
    def samples_per_epoch(self) -> int:
        """How many an epoch sees, repeats counted."""
        return sum(record.repeats for record in self.records)

    def drawn(self, count: int | None, *, seed: int) -> Examples:
        """At most `count` of them in their order, those that `datasets` draws with this seed."""
        if count is None or count >= len(self):
            return self
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        records = [self.records[index] for index in sorted(chosen)]
        return Examples(records, self.request, is_prior=self.is_prior, remarks=self.remarks)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self.records[index], self.request, is_prior=self.is_prior)
        return open_record(self.records[index], self.request, is_prior=self.is_prior)


def open_record(record: Record, request: DataRequest, *, is_prior: bool = False) -> Example:
    """Open an image with its mask and its condition.

    Raises:
        FileError: one of them cannot be used.
    """
    image, alpha = open_layers(image_source(record), name=record.name)
    return complete(record, request, image, alpha, is_prior=is_prior)


def complete(
    record: Record,
    request: DataRequest,
    image: Image.Image,
    alpha: Image.Image | None,
    *,
    is_prior: bool = False,
) -> Example:
    """An opened image with its mask and its condition.

    Raises:
        FileError: one of them cannot be used.
    """
    if min(image.size) < SMALLEST:
        reason = f"it has only {image.width} x {image.height} pixels"
        raise FileError(record.name, reason, "Take a larger version, or remove it")
    return Example(
        name=record.name,
        image=image,
        caption=record.caption,
        mask=_mask(record, request, image, alpha),
        control_image=_layer(record.control_image, record, image.size, what="control image"),
        is_prior=is_prior,
        repeats=record.repeats,
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


def _layer(
    source: Source | None, record: Record, size: tuple[int, int], *, what: str
) -> Image.Image | None:
    """The mask or the condition given with an image of that `size`; transparent is black."""
    content = _content(source)
    if content is None:
        return None
    layer = open_map(content, name=f"{what} of {record.name}")
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

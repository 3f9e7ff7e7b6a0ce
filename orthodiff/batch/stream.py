"""Batches from Python: images come as they are made, nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from PIL import Image

from orthodiff.batch.encode import Missed
from orthodiff.batch.ids import Hashes, image_id
from orthodiff.batch.plan import Item, chunks_of, groups_of, resolve
from orthodiff.batch.rows.row import Row, canonical_row, row_of
from orthodiff.batch.worker import Worker
from orthodiff.io.png_metadata import ImageRecipe
from orthodiff.models import Base, load_base
from orthodiff.options.control import ControlOptions
from orthodiff.options.sampling import SamplingOptions
from orthodiff.settings import validate


@dataclass(frozen=True)
class GeneratedImage:
    """One image of `generate_many`: of row number `index`. A failed one has an `error` instead."""

    index: int
    row: Row
    image: Image.Image | None = None
    recipe: ImageRecipe | None = None
    error: str = ""


def generate_many(
    base: Base | str,
    rows: Iterable[Row | Mapping[str, Any] | str],
    *,
    batch_size: int | None = None,
    merge: bool | None = None,
) -> Iterator[GeneratedImage]:
    """Make an image of each row, and yield it when it is made: rows of one adapter come together.

    A row is a prompt, or a mapping with the fields of a prompt file (`prompt`, `seed`, `steps`,
    `adapter`, ...). `batch_size` and `merge` are measured if they are None. One row that fails does
    not end the others. The base is left as it was.

    Raises:
        UserError: the base cannot be loaded, or a row cannot be meant.
    """
    given = [_row(row) for row in rows]
    loaded = load_base(base) if isinstance(base, str) else base
    options = validate(SamplingOptions, {"pretrained_model_name_or_path": loaded.name})
    with closing(Worker(loaded, options, validate(ControlOptions, {}))) as worker:
        hashes = Hashes()
        resolved = [resolve(row, worker.card) for row in given]
        items = [
            Item(index, image_id(row, worker.card, hashes, {}), "", row)
            for index, row in enumerate(resolved)
        ]
        yield from _made(worker, items, batch_size, merge)


def _made(
    worker: Worker, items: list[Item], batch_size: int | None, merge: bool | None
) -> Iterator[GeneratedImage]:
    if not items:
        return
    group = max(groups_of(items), key=len)
    measured = worker.measure(group, most=len(group)) if None in (batch_size, merge) else None
    for chunk in chunks_of(
        items,
        frozenset(item.id for item in items),
        batch_size=lambda pixels: batch_size or (measured.size_for(pixels) if measured else 1),
        merge=lambda images: (
            bool(merge) if measured is None or merge is not None else measured.merge_pays(images)
        ),
    ):
        for item, outcome in zip(chunk.items, worker.make(chunk), strict=True):
            if isinstance(outcome, Missed):
                yield GeneratedImage(item.index, item.row, error=outcome.sentence)
            else:
                yield GeneratedImage(item.index, item.row, outcome.image, outcome.recipe)


def _row(given: Row | Mapping[str, Any] | str) -> Row:
    if isinstance(given, Row):
        return given
    return row_of(canonical_row({"prompt": given} if isinstance(given, str) else given))

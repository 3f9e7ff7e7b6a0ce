"""Which images are made together: by adapter, then by shape and settings, in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.ids import FileNames, Hashes, image_id
from orthodiff.batch.rows.row import Row
from orthodiff.errors import UserError
from orthodiff.sampling import GenerateRequest


@dataclass(frozen=True)
class Item:
    """One image of a batch; `row` is resolved, `name` its file without ending."""

    index: int
    id: str
    name: str
    row: Row


@dataclass(frozen=True)
class Chunk:
    """Images that go through the model together, in this order, whichever of them are `missing`.

    What a batch is made of changes the last bits of its images, so a chunk that was cut off is
    made again as it was, and only what is missing is written.
    """

    number: int
    items: tuple[Item, ...]
    missing: frozenset[str]
    merge: bool

    @property
    def adapter(self) -> tuple[tuple[str, ...], float]:
        """What must be on the base: adapters and their strength."""
        return self.items[0].row.adapter, self.items[0].row.strength


def resolve(row: Row, card: BaseCard) -> Row:
    """The row with the base's advice in the place of what it leaves open.

    Raises:
        UserError: it asks for something the base cannot do.
    """
    _check(row)
    request = GenerateRequest(
        (row.prompt,),
        (row.seed,),
        negative_prompt=row.negative_prompt,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        width=row.width,
        height=row.height,
        sampler=row.sampler,
    ).within(card.limits)
    return row.model_copy(
        update={
            "negative_prompt": request.negative_prompt,
            "num_inference_steps": request.num_inference_steps,
            "guidance_scale": request.guidance_scale,
            "width": request.width,
            "height": request.height,
            "denoise": (row.denoise or 1.0) if row.init_image else None,
        }
    )


def _check(row: Row) -> None:
    if (row.mask or row.denoise is not None) and not row.init_image:
        name = "mask" if row.mask else "denoise"
        raise UserError(f"`{name}` is given, but no image to start from. Add `init_image`.")
    if row.strength != 1 and not row.adapter:
        raise UserError("`strength` needs an adapter. Add one, or leave it out.")
    if row.condition and row.condition_from:
        raise UserError("Both `condition` and `condition_from` are given. Leave one out.")


def items_of(
    rows: Sequence[Row],
    card: BaseCard,
    *,
    template: str,
    settings: Mapping[str, Any],
) -> tuple[list[Item], list[str]]:
    """Distinct resolved rows with ids and names, and the id of every row: some may be the same.

    Raises:
        UserError: an adapter or image cannot be read, or the template cannot be used.
    """
    hashes = Hashes()
    all_ids = [image_id(row, card, hashes, settings) for row in rows]
    first: dict[str, Row] = {}
    for each, row in zip(all_ids, rows, strict=True):
        first.setdefault(each, row)
    ids, distinct = list(first), list(first.values())
    names = FileNames(template).of(distinct, ids)
    items = [
        Item(index, each, name, row)
        for index, (each, name, row) in enumerate(zip(ids, names, distinct, strict=True))
    ]
    return items, all_ids


def groups_of(items: Sequence[Item]) -> list[list[Item]]:
    """Items that one batch can hold, by adapter first, in the order of their first rows."""
    by_adapter: dict[Any, dict[Any, list[Item]]] = {}
    for item in items:
        row = item.row
        shapes = by_adapter.setdefault((row.adapter, row.strength), {})
        shapes.setdefault(_together(row), []).append(item)
    return [group for shapes in by_adapter.values() for group in shapes.values()]


def _together(row: Row) -> Any:
    """What images of one batch have in common, beside the adapter."""
    return (
        row.width, row.height, row.num_inference_steps, row.guidance_scale, row.negative_prompt,
        row.sampler, row.init_image is None, row.mask is None, row.denoise, row.condition is None,
        row.condition_from is None, row.control_strength, row.control_start, row.control_end,
    )  # fmt: skip


def chunks_of(
    items: Sequence[Item],
    missing: frozenset[str],
    *,
    batch_size: Callable[[int], int],
    merge: Callable[[int], bool],
) -> list[Chunk]:
    """Chunks of the whole batch in which something is missing.

    They are cut from the whole batch, not from what is missing: the same ones at every start.
    `batch_size` is asked with an image's pixels, `merge` with the number of an adapter's images.
    """
    images = Counter((item.row.adapter, item.row.strength) for item in items)
    chunks: list[Chunk] = []
    for group in groups_of(items):
        row = group[0].row
        size = batch_size((row.width or 1) * (row.height or 1))
        merged = bool(row.adapter) and merge(images[row.adapter, row.strength])
        for start in range(0, len(group), size):
            part = tuple(group[start : start + size])
            ids = frozenset(item.id for item in part)
            chunks.append(Chunk(len(chunks), part, ids & missing, merged))
    return [chunk for chunk in chunks if chunk.missing]


def share(chunks: Sequence[Chunk], *, rank: int, world: int) -> list[Chunk]:
    """The chunks of one of `world` processes that share a batch."""
    return [chunk for chunk in chunks if chunk.number % world == rank]

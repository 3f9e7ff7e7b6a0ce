"""What a run was made from beyond its settings: one that goes on must meet the very same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orthodiff.errors import UserError

from .dataset import Examples, facts_of
from .table import ImageTable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from orthodiff.models import Base

    from ..options.config import RunConfig
    from .readers.records import Record

Sums = list[list[str]] | dict[str, Any]
MAX_SUMS = 10_000
"""Images whose sums a checkpoint keeps each; of more it keeps one sum."""
IMAGE_KEYS = {"pictures": "images", "class pictures": "class images"}
"""Keys of a checkpoint, which stay as they were first written -> what messages call them."""
OR_AFRESH = "or start afresh in another --output_dir"


def provenance_of(
    config: RunConfig,
    accelerator: Accelerator,
    base: Base,
    examples: Examples,
    prior: Sequence[Record] = (),
) -> dict[str, Any]:
    """Sums over the base's weights and every image, samples a step, and the precision."""
    share = config.train_batch_size * config.gradient_accumulation_steps
    return {
        "base": {part: base.fingerprint(part) for part in _parts(base)},
        "pictures": _all_sums(examples.table),
        "class pictures": [[record.name, _prior_sum(record)] for record in prior],
        "samples": share * accelerator.num_processes,
        "precision": str(base.dtype).removeprefix("torch."),
    }


def check_provenance(now: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on from a `checkpoint` that was made from something else.

    Raises:
        UserError: naming the part of the base, the image or the number that differs.
    """
    if "origin" not in checkpoint:  # saved before origins were
        return
    before = json.loads(checkpoint["origin"])
    at = f"the checkpoint of step {checkpoint['step']}"
    for part, weights in before["base"].items():
        if now["base"].get(part) != weights:
            raise UserError(
                f"The base's {part} is not the one that {at} was trained on: its weights differ. "
                f"Give the same base, {OR_AFRESH}."
            )
    for key, kind in IMAGE_KEYS.items():
        there = before.get(key, now[key])  # class images were not kept at first
        if difference := _differ(now[key], there):
            raise UserError(
                f"The {kind} are not those that {at} was trained on: {difference}. Put them back, "
                f"{OR_AFRESH}."
            )
    for name, unit in (("samples", "samples a step"), ("precision", "as precision")):
        if now[name] != before[name]:
            raise UserError(
                f"This run has {now[name]} {unit}, but {at} was trained with {before[name]}. "
                f"{REMEDIES[name]}, {OR_AFRESH}."
            )


REMEDIES = {
    "samples": "Let processes x --train_batch_size x --gradient_accumulation_steps be the same",
    "precision": "Give the same --mixed_precision",
}


def _parts(base: Base) -> tuple[str, ...]:
    return (base.denoiser_folder, "vae", *(text.name for text in base.texts))


def _prior_sum(record: Record) -> str:
    """Of the image alone where it has no mask, as checkpoints have always kept it."""
    facts = facts_of(record)
    return facts.image.hex()[:16] if record.mask is None else facts.sum


def _all_sums(table: ImageTable) -> Sums:
    """Name and sum of every image in the order that the run's chance counts them, or one of all."""
    return table.sums() if len(table) <= MAX_SUMS else _sum_of_all(table.sums())


def _sum_of_all(sums: Sequence[Sequence[str]]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, each in sums:
        digest.update(f"{name}\0{each}\n".encode(errors="surrogateescape"))
    return {"count": len(sums), "sum": digest.hexdigest()}


def _differ(now: Sums, before: Sums) -> str | None:
    """What differs between the images of now and before, in words."""
    if isinstance(now, list) and isinstance(before, list):
        return None if now == before else _difference(now, before)
    one, other = (_sum_of_all(sums) if isinstance(sums, list) else sums for sums in (now, before))
    if one["count"] != other["count"]:
        return f"there are {one['count']}, and there were {other['count']}"
    return None if one == other else "some of them, their captions or their order were changed"


def _difference(now: Sequence[Sequence[str]], before: Sequence[Sequence[str]]) -> str:
    """The first image that differs, in words."""
    here, there = ({pair[0]: pair[1] for pair in sums} for sums in (now, before))
    if gone := [name for name in there if name not in here]:
        return f"`{gone[0]}` is gone"
    if new := [name for name in here if name not in there]:
        return f"`{new[0]}` is new"
    changed = [name for name in here if here[name] != there[name]]
    return f"`{changed[0]}` or its caption was changed" if changed else "their order is another"

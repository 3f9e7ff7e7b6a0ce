"""What a run was made from beyond its settings: one that goes on must meet the very same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orthodiff.errors import UserError
from orthodiff.io.hashing import content_key

from .dataset import Examples

if TYPE_CHECKING:
    from accelerate import Accelerator

    from orthodiff.models import Base

    from ..options.config import RunConfig
    from .readers.records import Record, Source

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
        "pictures": _pictures(examples),
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
    for kind in ("pictures", "class pictures"):
        there = before.get(kind, now[kind])  # class images were not kept at first
        if now[kind] != there:
            raise UserError(
                f"The {kind} are not those that {at} was trained on: "
                f"{_difference(now[kind], there)}. Put them back, {OR_AFRESH}."
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


def _pictures(examples: Examples) -> list[list[str]]:
    """Name and sum of every image, in the order that the run's chance counts them."""
    return [[record.name, _sum(record)] for record in examples.records]


def _sum(record: Record) -> str:
    layers = (_content(layer) for layer in (record.image, record.mask, record.control_image))
    return content_key(*layers, record.caption, str(record.repeats))[:16]


def _prior_sum(record: Record) -> str:
    """Of the image alone where it has no mask, as checkpoints have always kept it."""
    return _content(record.image)[:16] if record.mask is None else _sum(record)


def _content(source: Source | None) -> str:
    """The sum over a file, or over what would be in one."""
    content = source() if callable(source) else source
    if isinstance(content, Path):
        content = content.read_bytes()
    return hashlib.sha256(content or b"").hexdigest()


def _difference(now: Iterable[tuple[str, str]], before: Iterable[tuple[str, str]]) -> str:
    """The first image that differs, in words."""
    here, there = dict(now), dict(before)
    if gone := [name for name in there if name not in here]:
        return f"`{gone[0]}` is gone"
    if new := [name for name in here if name not in there]:
        return f"`{new[0]}` is new"
    changed = [name for name in here if here[name] != there[name]]
    return f"`{changed[0]}` or its caption was changed" if changed else "their order is another"

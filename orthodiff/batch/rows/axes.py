"""Rows x adapters x checkpoints x strengths x samplers x seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthodiff.batch.rows.expand import TRIGGER, Combine, Sources, expand
from orthodiff.batch.rows.files import Written
from orthodiff.batch.rows.row import Row, row_of
from orthodiff.components.registry import describe
from orthodiff.errors import UserError
from orthodiff.evaluation.subject_folder import phrase_of
from orthodiff.io.modelspec import trigger_phrase

MANY = ("seed", "strength", "sampler", "num_inference_steps", "guidance_scale", "checkpoint")
"""Fields for which a row may give several values: each makes an image."""
NONE = "none"
"""As an adapter on an axis: the base alone."""


@dataclass(frozen=True)
class Axes:
    """What every row is crossed with, where it does not say so itself; the last varies fastest."""

    adapter: Sequence[tuple[str, ...]] = ()
    checkpoint: Sequence[str] = ()
    strength: Sequence[float] = ()
    sampler: Sequence[str] = ()
    num_inference_steps: Sequence[int] = ()
    guidance_scale: Sequence[float] = ()
    seed: Sequence[int] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    num_images: int = 1


def cross(
    written: Sequence[Written],
    axes: Axes,
    sources: Sources,
    *,
    combine: Combine = "product",
    limit: int | None = None,
    skip_bad: bool = False,
) -> tuple[list[Row], list[str]]:
    """All images to make in order, and sentences about rows that were left out.

    Raises:
        UserError: a row cannot be meant, naming its line, and `skip_bad` is not set.
    """
    rows: list[Row] = []
    skipped: list[str] = []
    for each in written:
        try:
            for row in _rows_of(each.values, axes, sources, combine):
                if limit is not None and len(rows) >= limit:
                    return rows, skipped
                rows.append(row)
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{each.where}: {error}") from error
            skipped.append(f"{each.where}: {error}")
    return rows, skipped


def count(written: Sequence[Written], axes: Axes, sources: Sources, *, combine: Combine) -> int:
    """How many images `cross` makes without a limit."""
    return sum(1 for each in written for _ in _rows_of(each.values, axes, sources, combine))


def _rows_of(
    values: Mapping[str, Any], axes: Axes, sources: Sources, combine: Combine
) -> Iterator[Row]:
    fixed = {**axes.defaults, **values}
    lists = {name: fixed.pop(name) for name in MANY if isinstance(fixed.get(name), list)}
    names = [*Axes.__dataclass_fields__][:-2]
    choices = [(name, lists.get(name) or _axis(name, values, axes)) for name in names]
    open_axes = [(name, several) for name, several in choices if several]
    texts = (str(fixed.get("prompt", "")), str(fixed.get("negative_prompt", "")))
    for prompt, negative in expand(texts, sources, combine=combine):
        for chosen in itertools.product(*(several for _, several in open_axes)):
            given = {**fixed, **dict(zip((n for n, _ in open_axes), chosen, strict=True))}
            yield from _seeded(
                given,
                prompt,
                negative,
                repeated=1 if any(name == "seed" for name, _ in open_axes) else axes.num_images,
                own_strength="strength" in values,
            )


def _axis(name: str, values: Mapping[str, Any], axes: Axes) -> Sequence[Any]:
    return () if name in values else getattr(axes, name)


def _seeded(
    given: Mapping[str, Any], prompt: str, negative: str, *, repeated: int, own_strength: bool
) -> Iterator[Row]:
    """The images that differ in nothing but the seed; the base alone has no strength."""
    row = row_of({**given, "prompt": prompt, "negative_prompt": negative})
    if not row.adapter and not own_strength:
        row = row.model_copy(update={"strength": 1.0})
    row = expand_trigger(_at_checkpoint(row))
    for number in range(repeated):
        yield row.model_copy(update={"seed": row.seed + number}) if number else row


def _at_checkpoint(row: Row) -> Row:
    """The row with its adapter's folder replaced by that of the checkpoint it asks for."""
    if row.checkpoint is None:
        return row
    if not row.adapter:
        raise UserError("`checkpoint` needs an adapter whose checkpoints lie in its folder.")
    *others, run = row.adapter
    named = row.checkpoint if row.checkpoint.startswith("checkpoint-") else None
    folder = Path(run) / (named or f"checkpoint-{row.checkpoint}")
    if not folder.is_dir():
        steps = (path.name.partition("-")[2] for path in Path(run).glob("checkpoint-*"))
        there = ", ".join(sorted(steps, key=lambda step: (len(step), step)))
        raise UserError(
            f"`checkpoint` is {row.checkpoint!r}, but `{run}` has no such folder. "
            + (f"There are {there}." if there else "It has none at all.")
        )
    return row.model_copy(update={"adapter": (*others, str(folder))})


def expand_trigger(row: Row) -> Row:
    """The row with the adapter's own words in the place of `{trigger}`."""
    if TRIGGER not in row.prompt + row.negative_prompt:
        return row
    words = trigger_of(row.adapter)
    texts = {
        name: getattr(row, name).replace(TRIGGER, words) for name in ("prompt", "negative_prompt")
    }
    return row.model_copy(update=texts)


def trigger_of(adapter: Sequence[str]) -> str:
    """The words that call up what adapters learned: "sks dog".

    Raises:
        UserError: there is no adapter, or none tells its words.
    """
    words = []
    for folder in adapter:
        parts = describe(Path(folder))
        recipe = parts.get("recipe") or {}
        token = parts.get("tokens", {}).get("placeholder_token", "")
        phrase = trigger_phrase(recipe) or token
        if phrase:
            words.append(phrase_of(phrase))
    if not words:
        of = f"`{' + '.join(adapter)}` tells none" if adapter else "there is no adapter"
        raise UserError(
            f"{{trigger}} stands for the words an adapter was trained with, but {of}. "
            "Write the words themselves."
        )
    return " and ".join(words)

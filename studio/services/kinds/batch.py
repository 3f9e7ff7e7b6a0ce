"""A batch: rows for `orthodiff generate --prompts`, which goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orthodiff.batch.rows.axes import Axes, cross
from orthodiff.batch.rows.expand import Sources, expand
from orthodiff.batch.rows.files import Written
from orthodiff.batch.rows.row import Row
from orthodiff.errors import UserError
from orthodiff.schedulers import sampler_name

from ..adapters import AdapterEntry
from ..jobs.folders import OUTPUT
from ..prompts import check_row
from ..settings.base import FieldError
from ..settings.batch import MOST_IMAGES, BatchJobSettings
from .base import Offer, Prepared, base_title
from .images import base_for, with_trigger

ROWS = "rows.jsonl"


def prepare_batch(offer: Offer, owner: str, settings: BatchJobSettings) -> Prepared:
    """Check everything there is to check before a batch is queued.

    Raises:
        UserError: the first setting that cannot be as it is.
    """
    lines = [line.strip() for line in settings.prompts if line.strip()]
    if not lines and not settings.rows:
        raise FieldError("prompts", "The prompt is empty. Write what the images should show.")
    entries = [offer.adapters.get(owner, use.id) for use in settings.adapters]
    base = base_for(offer, settings.base, entries)
    rows = list(_file_rows(settings, entries) if settings.rows else _rows(settings, entries, lines))
    if len(rows) > MOST_IMAGES:
        raise FieldError(
            "prompts", f"That makes {len(rows):,} images. Ask for at most {MOST_IMAGES:,}."
        )

    def fill(folder: Path, place: Path) -> Sequence[str]:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / ROWS).write_text(text, "utf-8")
        return [
            "generate",
            f"--prompts={place / ROWS}",
            f"--pretrained_model_name_or_path={base}",
            f"--output_dir={place / OUTPUT}",
        ]

    request = {
        **settings.model_dump(mode="json", exclude={"rows", "lists"}),
        "base": base_title(base),
        "prompt": rows[0]["prompt"] if settings.rows else lines[0],
        "images": len(rows),
        "adapter_names": [entry.name for entry in entries],
    }
    return Prepared("batch", request, fill)


def _file_rows(
    settings: BatchJobSettings, entries: Sequence[AdapterEntry]
) -> Iterator[dict[str, Any]]:
    """The rows of a prompt file with each adapter; what a row says itself holds.

    Raises:
        FieldError: a row cannot be meant, naming its line.
    """
    written = [Written(f"Row {n}", dict(row)) for n, row in enumerate(settings.rows, start=1)]
    used = list(zip(entries, settings.adapters, strict=True)) or [(None, None)]
    for entry, use in used:
        axes = Axes(
            defaults={**_shared(settings), "seed": settings.seed}, num_images=settings.num_images
        )
        if entry and use:
            folders = ((str(entry.weights(use.checkpoint)),),)
            axes = replace(axes, adapter=folders, strength=(use.strength,))
        try:
            for row in written:
                check_row(row.values)
            made, _ = cross(written, axes, Sources(settings.lists), limit=MOST_IMAGES + 1)
        except UserError as error:
            raise FieldError("rows", str(error)) from error
        yield from (_written(row) for row in made)


def _written(row: Row) -> dict[str, Any]:
    """A row that is expanded no further."""
    values = row.written()
    return {
        name: _literal(value) if name in ("prompt", "negative_prompt") else value
        for name, value in values.items()
    }


def _rows(
    settings: BatchJobSettings, entries: Sequence[AdapterEntry], lines: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One row for each image; alternatives are spelled out here, so that all are counted."""
    shared = _shared(settings)
    used = list(zip(entries, settings.adapters, strict=True)) or [(None, None)]
    for entry, use in used:
        of_adapter: dict[str, Any] = {}
        if entry and use:
            weights = str(entry.weights(use.checkpoint))
            of_adapter = {"adapter": [weights], "strength": use.strength}
        for line in lines:
            named = with_trigger(line, [entry] if entry else [])
            for (prompt,) in _expanded(named):
                for seed in range(settings.seed, settings.seed + settings.num_images):
                    row = {**shared, **of_adapter, "prompt": _literal(prompt), "seed": seed}
                    yield row


def _shared(settings: BatchJobSettings) -> dict[str, Any]:
    """What all images have in common, as far as it was filled in."""
    values = {
        "negative_prompt": _literal(settings.negative_prompt.strip()),
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "sampler": _sampler(settings.sampler),
    }
    return {name: value for name, value in values.items() if value not in (None, "")}


def _expanded(line: str) -> Any:
    """All forms of a prompt.

    Raises:
        FieldError: it cannot be read, or takes values from lists or files, which are not here.
    """
    try:
        return expand([line], Sources())
    except UserError as error:
        sentence = str(error).partition(" Give ")[0]
        raise FieldError("prompts", f"{sentence} Write alternatives as {{a|b}}.") from error


def _literal(text: str) -> str:
    """Text that is expanded no further."""
    return text.replace("{", "\\{").replace("$", "\\$").replace("__", "\\__")


def _sampler(name: str) -> str | None:
    try:
        return sampler_name(name) if name else None
    except UserError as error:
        raise FieldError("sampler", str(error)) from error

"""A batch: rows for `orthodiff generate --prompts`, which goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orthodiff.batch.rows.expand import Sources, expand
from orthodiff.errors import UserError
from orthodiff.schedulers import sampler_name

from ..adapters import AdapterEntry
from ..jobs.folders import OUTPUT
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
    if not lines:
        raise FieldError("prompts", "The prompt is empty. Write what the images should show.")
    entries = [offer.adapters.get(owner, use.id) for use in settings.adapters]
    base = base_for(offer, settings.base, entries)
    rows = list(_rows(settings, entries, lines))
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
        **settings.model_dump(mode="json"),
        "base": base_title(base),
        "prompt": lines[0],
        "images": len(rows),
        "adapter_names": [entry.name for entry in entries],
    }
    return Prepared("batch", request, fill)


def _rows(
    settings: BatchJobSettings, entries: Sequence[AdapterEntry], lines: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One row for each image; alternatives are spelled out here, so that all are counted."""
    shared = {
        "negative_prompt": _literal(settings.negative_prompt.strip()),
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "sampler": _sampler(settings.sampler),
    }
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
                    yield {name: value for name, value in row.items() if value not in (None, "")}


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

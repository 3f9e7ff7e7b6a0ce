"""From a filled in Control tab to the request for `generate`, its maps written beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orthodiff.cli.generate import GenerateOptions
from orthodiff.errors import UserError
from orthodiff.io.atomic import make_folder
from orthodiff.settings import validate

from ..widgets.forms import number
from .maps import UsedMap


def steered_options(
    maps: Sequence[UsedMap],
    folder: Path,
    *,
    base: str,
    adapters: Sequence[Path],
    strength: Any,
    start: Any,
    end: Any,
    sampling: Mapping[str, Any],
) -> GenerateOptions:
    """The checked request for pictures in `folder`, where the maps are then kept as PNG.

    Pictures are as large as the maps, so what was shown is what is used. `strength`, `start` and
    `end` are as they were filled in; `sampling` are checked options.

    Raises:
        UserError: the first value that cannot be as it is; nothing has been written.
    """
    first, last = number("From", start), number("To", end)
    if not 0 <= first < last <= 1:
        raise UserError(f"Control lasts from {first:g} to {last:g}. Let it begin before it ends.")
    width, height = maps[0].used.size
    values = {
        "pretrained_model_name_or_path": base,
        "adapter": list(adapters),
        "condition": [folder / f"map-{place:02d}.png" for place in range(len(maps))],
        "control_strength": number("Control", strength, least=0, most=10),
        "control_start": first,
        "control_end": last,
        "width": width,
        "height": height,
        "output_dir": folder,
        **sampling,
    }
    options = validate(GenerateOptions, values)
    make_folder(folder)
    for shown, path in zip(maps, options.condition, strict=True):
        shown.used.save(path)
    return options

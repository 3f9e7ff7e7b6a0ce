"""What an evaluation finds: figures, an image grid, and what could not be measured."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from orthodiff.errors import UserError
from orthodiff.io.atomic import make_folder, replace_file

REPORT, GRID = "report.json", "grid.png"
MARK = ("Software", "orthodiff evaluation")
"""A text in the grid's file, by which a later evaluation knows that it may replace it."""


@dataclass(frozen=True)
class Report:
    """`values` are plain numbers, texts and lists; `notes` are sentences."""

    values: Mapping[str, Any]
    grid: Image.Image
    notes: Sequence[str] = ()

    def save(self, folder: Path) -> None:
        """Write `grid.png` and `report.json` into `folder`.

        Raises:
            UserError: the folder cannot be made or written, or holds such files of others.
        """
        make_folder(folder)
        check_replaceable(folder)
        text = json.dumps(self.values, indent=2, ensure_ascii=False)
        replace_file(folder / REPORT, f"{text}\n".encode())
        packed, mark = io.BytesIO(), PngInfo()
        mark.add_text(*MARK)
        self.grid.save(packed, format="PNG", pnginfo=mark)
        replace_file(folder / GRID, packed.getvalue())


def check_replaceable(folder: Path) -> None:
    """Refuse a folder whose `grid.png` or `report.json` no evaluation of ours wrote.

    Raises:
        UserError: naming the file.
    """
    for name, is_ours in ((REPORT, _is_report), (GRID, _is_grid)):
        path = folder / name
        if path.exists() and not is_ours(path):
            raise UserError(
                f"`{path}` was not written by an evaluation, so it is not replaced. Move it away, "
                "or choose another --output_dir."
            )


def _is_report(path: Path) -> bool:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"base_model", "scorer"} <= set(values)


def _is_grid(path: Path) -> bool:
    """Marked as ours, or, from before there was a mark, beside a report of ours."""
    try:
        with Image.open(path) as image:
            marked = getattr(image, "text", {}).get(MARK[0]) == MARK[1]
    except (OSError, ValueError, SyntaxError):
        marked = False
    return marked or _is_report(path.with_name(REPORT))

"""What an evaluation finds: figures, an image grid, and what could not be measured."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from orthodiff.io.atomic import make_folder, replace_file


@dataclass(frozen=True)
class Report:
    """`values` are plain numbers, texts and lists; `notes` are sentences."""

    values: Mapping[str, Any]
    grid: Image.Image
    notes: Sequence[str] = ()

    def save(self, folder: Path) -> None:
        """Write `grid.png` and `report.json` into `folder`.

        Raises:
            UserError: the folder cannot be made or written.
        """
        make_folder(folder)
        packed = io.BytesIO()
        self.grid.save(packed, format="PNG")
        replace_file(folder / "grid.png", packed.getvalue())
        text = json.dumps(self.values, indent=2, ensure_ascii=False)
        replace_file(folder / "report.json", f"{text}\n".encode())

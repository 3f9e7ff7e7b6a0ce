"""What `--plan` measures about a training: its own first steps, in a folder that vanishes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .command import run_command
from .kinds.base import Prepared

SHOWN = {"time": "Time", "peak memory": "Memory", "disk": "Disk", "steps": "Steps"}


def measure_training(prepared: Prepared, scratch: Path) -> list[tuple[str, str]]:
    """Names and values of what a training would take; nothing of the trial stays.

    Raises:
        UserError: it cannot be measured; the command's own sentence.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        folder = Path(place) / "run"
        folder.mkdir()
        words = [*prepared.fill(folder, folder), "--plan"]
        lines = run_command(words, failed="It could not be measured.").splitlines()
    table = dict(_split(line) for line in lines)
    return [(title, table[name]) for name, title in SHOWN.items() if name in table]


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition("  ")
    return name.strip(), value.strip()

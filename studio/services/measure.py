"""What `--plan` measures about a training: its own first steps, in a folder that vanishes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from orthodiff.errors import UserError

from .jobs.local import ROOT
from .kinds.base import Prepared

PATIENCE = 600.0
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
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", "orthodiff", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            timeout=PATIENCE,
            check=False,
        )
    if done.returncode:
        lines = [ln for ln in done.stderr.splitlines() if ln.startswith(("error: ", "failed: "))]
        raise UserError(lines[-1].partition(": ")[2] if lines else "It could not be measured.")
    table = dict(_split(line) for line in done.stdout.splitlines())
    return [(title, table[name]) for name, title in SHOWN.items() if name in table]


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition("  ")
    return name.strip(), value.strip()

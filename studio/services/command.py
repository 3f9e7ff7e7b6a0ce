"""Runs `orthodiff COMMAND` in a process of its own and waits: the page itself loads no model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from orthodiff.errors import UserError

from .jobs.local import ROOT

PATIENCE = 600.0
"""Seconds."""


def run_command(words: Sequence[str], *, module: str = "orthodiff", failed: str) -> str:
    """What `python -m MODULE WORDS` writes to its standard output.

    Raises:
        UserError: it fails; the command's own sentence, or `failed` where it has none.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{failed} It took more than {PATIENCE / 60:.0f} minutes.") from error
    if done.returncode:
        lines = [ln for ln in done.stderr.splitlines() if ln.startswith(("error: ", "failed: "))]
        raise UserError(lines[-1].partition(": ")[2] if lines else failed)
    return done.stdout

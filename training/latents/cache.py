"""Where what a run encodes is kept from run to run."""

from __future__ import annotations

import os
from pathlib import Path

from orthodiff.errors import UserError
from orthodiff.io.atomic import can_be_written


def check_cache(folder: Path) -> None:
    """Refuse early a folder that could not be written or made; nothing is written.

    A cache that is there already may be read only: what it lacks is refused when it is to be kept.

    Raises:
        UserError: naming it.
    """
    if not can_be_written(folder) and not (folder / "encoded").is_dir():
        raise UserError(
            f"The cache folder `{folder}` cannot be written. Choose another --cache_dir."
        )


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/orthodiff`, usually `~/.cache/orthodiff`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "orthodiff"

"""How a batch is asked to end once what it is making is written: an empty file in its folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_AFTER = "stop_after_image"
"""`touch OUT/stop_after_image`; the file is removed when the batch has ended."""


@dataclass(frozen=True)
class StopRequest:
    """The request in the folder of a batch, if there is one."""

    folder: Path

    @property
    def is_made(self) -> bool:
        """Whether no further images are to be begun; a file that holds something is no request."""
        with suppress(OSError):
            path = self.folder / STOP_AFTER
            return path.is_file() and path.stat().st_size == 0
        return False

    def make(self) -> None:
        """Ask for it, also before the batch has made its folder.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STOP_AFTER).touch(mode=0o600)

    def take_back(self) -> None:
        """Remove it."""
        if self.is_made:
            (self.folder / STOP_AFTER).unlink(missing_ok=True)

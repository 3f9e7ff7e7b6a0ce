"""Output that nobody may be listening to any more: a closed terminal or pipe ends no work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class SurvivingStream:
    """Writes to `stream` until its listener is lost, and from then on nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_lost = False

    def write(self, text: str) -> int:
        """Write, if somebody listens; what is said to nobody counts as written."""
        if not self._is_lost:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:  # such as a file's name of other bytes
                encoding = self._stream.encoding or "ascii"
                return self._stream.write(
                    text.encode(encoding, "backslashreplace").decode(encoding)
                )
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush, if somebody listens."""
        if not self._is_lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def isatty(self) -> bool:
        return not self._is_lost and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError | ValueError) -> None:
        """Go on without a listener: the reader of a pipe, a terminal, or the disk of a log.

        What is still in the stream's buffer must not fail at the program's end either, so its file
        is exchanged for one that takes everything.
        """
        if isinstance(error, ValueError) and not self._stream.closed:
            raise error
        self._is_lost = True
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def surviving_streams() -> Iterator[None]:
    """Within, losing whoever reads standard output or standard error ends nothing."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(SurvivingStream, before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

"""Work that is shared out over the processes of a run, each part of it done once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .agreement import FailedElsewhereError, gather

if TYPE_CHECKING:
    from accelerate import Accelerator

Part = TypeVar("Part")
Result = TypeVar("Result")
Stop = tuple[type[Exception], ...]


class Shares:
    """The processes of a run as those who share out work; without an accelerator it is one alone.

    All of them must ask for the same work in the same order.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.rank = accelerator.process_index if accelerator else 0
        self.count = accelerator.num_processes if accelerator else 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes for all."""
        return self.rank == 0

    def gather(self, value: Result) -> list[Result]:
        """The value of every process, by rank."""
        return [value] if self.count == 1 else gather(value)

    def seeing(self, folder: Path) -> list[int]:
        """The ranks of the processes that see the same `folder`, told by a file of each in it.

        Where nothing can be put there it is this one alone.
        """
        if self.count == 1:
            return [0]
        mark = self.gather(secrets.token_hex(8))[0]
        own = folder / f".{mark}-{self.rank}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            own.touch()
        self.gather(None)  # all have put theirs
        seen = {rank for rank in range(self.count) if (folder / f".{mark}-{rank}").exists()}
        self.gather(None)  # all have looked
        with suppress(OSError):
            own.unlink(missing_ok=True)
        return sorted({*seen, self.rank})

    def map(
        self, work: Callable[[Part], Result], parts: Sequence[Part], *, stop: Stop = ()
    ) -> list[Result]:
        """What `work` returns of each part, in order, in all processes.

        A part is done in one process, in the very way in which one alone would do it.

        Raises:
            FailedElsewhereError: work failed in another process; what it raised, if it failed here.
                An exception of `stop` is raised in all of them.
        """
        if self.count == 1:
            return [work(part) for part in parts]
        shared: list[Any] = [None] * len(parts)
        for rank, outcome in enumerate(gather(self._own(work, parts, stop))):
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is None:
                raise FailedElsewhereError("Another process of this run has failed.")
            shared[rank :: self.count] = outcome
        return shared

    def _own(
        self, work: Callable[[Part], Result], parts: Sequence[Part], stop: Stop
    ) -> list[Result] | Exception:
        """This process's share, or what stopped it; that it failed is told before it is raised."""
        try:
            return [work(part) for part in parts[self.rank :: self.count]]
        except stop as error:
            return error
        except BaseException:
            gather(None)
            raise

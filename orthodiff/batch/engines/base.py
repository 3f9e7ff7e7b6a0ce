"""What every engine does: hold workers, and let them make chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.encode import EncodedImage, Encoder, Made, Missed
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item

TRIES = 3
"""How often a chunk is given to a worker before it counts as what kills workers."""


@dataclass(frozen=True)
class Result:
    """What became of a chunk's missing images, and what the worker remarked."""

    chunk: Chunk
    outcomes: Sequence[EncodedImage | Missed]
    notes: Sequence[str] = ()


class Engine(AbstractContextManager, Protocol):
    """Workers, open within the `with` block."""

    def card(self) -> BaseCard:
        """What the workers' base is.

        Raises:
            UserError: it cannot be loaded.
        """

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        """Let one worker try how images like these are made fastest."""

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        """Make chunks, each once, in whatever order they end."""


def encoded(encoder: Encoder, outcomes: Sequence[Made | Missed]) -> list[EncodedImage | Missed]:
    """Images as the bytes of their files."""
    return [o if isinstance(o, Missed) else encoder.encode(o) for o in outcomes]


def lost(chunk: Chunk, why: str) -> Result:
    """A chunk that took `TRIES` workers with it."""
    sentence = f"{why} {TRIES} times while making this image's batch. Use a smaller --batch_size."
    return Result(
        chunk, [Missed(item.id, sentence) for item in chunk.items if item.id in chunk.missing]
    )

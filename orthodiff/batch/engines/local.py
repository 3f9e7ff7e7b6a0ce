"""One worker in this process: samples in a thread of its own while files are written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.encode import Encoder
from orthodiff.batch.engines.base import Result, encoded
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item
from orthodiff.batch.worker import Worker

AHEAD = 2
"""Chunks that the worker goes on with while one is written."""


class LocalEngine:
    """Makes images in this process.

    All that is done with the base is done in one thread: torch's threads and the C library's heap
    belong to a thread, so that what another one takes would come on top.
    """

    def __init__(self, open_worker: Callable[[], Worker], encoder: Encoder) -> None:
        self._open, self.encoder = open_worker, encoder
        self._thread = ThreadPoolExecutor(1, "sampling")

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        if "worker" in vars(self):
            self._thread.submit(self.worker.close)
        self._thread.shutdown()

    @cached_property
    def worker(self) -> Worker:
        return self._thread.submit(self._open).result()

    def card(self) -> BaseCard:
        return self.worker.card

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        return self._thread.submit(self.worker.measure, items, most=most).result()

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        given: deque[Future[tuple[Chunk, Any, Any]]] = deque()
        try:
            for chunk in chunks:
                given.append(self._thread.submit(_make, self.worker, chunk))
                if len(given) > AHEAD:
                    yield self._encoded(given.popleft())
            while given:
                yield self._encoded(given.popleft())
            self._thread.submit(self.worker.close).result()
        finally:
            for future in given:
                future.cancel()

    def _encoded(self, future: Future[tuple[Chunk, Any, Any]]) -> Result:
        chunk, outcomes, notes = future.result()
        return Result(chunk, encoded(self.encoder, outcomes), notes)


def _make(worker: Worker, chunk: Chunk) -> tuple[Chunk, Any, Any]:
    """A chunk's images, and what the worker remarked about them."""
    before = len(worker.notes)
    return chunk, worker.make(chunk), worker.notes[before:]

"""One worker in this process: samples in a thread of its own while files are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.encode import Encoder
from orthodiff.batch.engines.base import Result, encoded
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item
from orthodiff.batch.worker import Worker

AHEAD = 2
"""Chunks that may wait to be written."""


class LocalEngine:
    """Makes images in this process."""

    def __init__(self, open_worker: Callable[[], Worker], encoder: Encoder) -> None:
        self._open, self.encoder = open_worker, encoder
        self._worker: Worker | None = None

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._worker is not None:
            self._worker.close()

    @property
    def worker(self) -> Worker:
        if self._worker is None:
            self._worker = self._open()
        return self._worker

    def card(self) -> BaseCard:
        return self.worker.card

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        return self.worker.measure(items, most=most)

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        for chunk, outcomes, notes in ahead(self._made(chunks)):
            yield Result(chunk, encoded(self.encoder, outcomes), notes)

    def _made(self, chunks: Iterable[Chunk]) -> Iterator[Any]:
        for chunk in chunks:
            before = len(self.worker.notes)
            outcomes = self.worker.make(chunk)
            yield chunk, outcomes, self.worker.notes[before:]


def ahead(source: Iterator[Any]) -> Iterator[Any]:
    """The same things, made in a thread at most `AHEAD` further, which ends with the reader."""
    queue: Queue[Any] = Queue(maxsize=AHEAD)
    stop, end = threading.Event(), object()

    def put(thing: Any) -> bool:
        while not stop.is_set():
            try:
                queue.put(thing, timeout=0.2)
                return True
            except Full:
                continue
        return False

    def fill() -> None:
        try:
            for thing in source:
                if not put((thing, None)):
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            try:
                thing, error = queue.get(timeout=0.2)
            except Empty:
                continue
            if error is not None:
                raise error
            if thing is end:
                return
            yield thing
    finally:
        stop.set()
        thread.join()

"""Several workers on this machine, each a process of its own: one per GPU, or N on a CPU.

A worker that dies takes nothing with it: what it was making is given to the one that replaces it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.engines.base import TRIES, Result, encoded, lost
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item
from orthodiff.batch.worker import WorkerSpec, sentence_of
from orthodiff.errors import UserError

IN_HAND = 2
"""Chunks that a worker has at once, so that it never waits for the next."""
GRACE = 5.0
"""Seconds that workers have to end by themselves."""


class ProcessEngine:
    """One worker for each of `specs`."""

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.specs = list(specs)
        self.workers: list[_Process] = []
        self.starts_in_vain = 0

    def __enter__(self) -> ProcessEngine:
        self.workers = [_Process(spec) for spec in self.specs]
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.end()

    def card(self) -> BaseCard:
        card = self._answer("ready")
        assert isinstance(card, BaseCard)
        return card

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        self._answer("ready")
        self.workers[0].connection.send(("measure", items, most))
        measured = self._answer("measured")
        assert isinstance(measured, Measurement)
        return measured

    def _answer(self, kind: str) -> Any:
        """What the first worker says.

        Raises:
            UserError: it cannot do what was asked, or died.
        """
        worker = self.workers[0]
        while kind not in worker.answers:
            if not worker.receive():
                raise UserError(f"A worker ended while it started ({worker.ending}).")
        return worker.answers[kind]

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        waiting, source, deaths = deque[Chunk](), iter(chunks), Counter[int]()
        while self._hand_out(waiting, source):
            ready = wait(
                [*(w.connection for w in self.workers), *(w.sentinel for w in self.workers)]
            )
            for place, worker in enumerate(self.workers):
                if worker.connection in ready or worker.sentinel in ready:
                    alive = worker.receive()
                    yield from worker.results()
                    if not alive:
                        yield from self._replace(place, waiting, deaths)

    def _hand_out(self, waiting: deque[Chunk], source: Iterator[Chunk]) -> bool:
        """Give each worker what it may have at once; whether anything is left to wait for."""
        for worker in self.workers:
            while len(worker.chunks) < IN_HAND:
                if not waiting:
                    waiting.extend(islice(source, 1))
                if not waiting or not worker.give(waiting[0]):
                    break
                waiting.popleft()
        return bool(waiting) or any(worker.chunks for worker in self.workers)

    def _replace(self, place: int, waiting: deque[Chunk], deaths: Counter[int]) -> Iterator[Result]:
        """Start another worker in the place of a dead one, and give its chunks back."""
        dead = self.workers[place]
        in_vain = "ready" not in dead.answers
        self.starts_in_vain = self.starts_in_vain + 1 if in_vain else 0
        if self.starts_in_vain >= TRIES:
            raise UserError(f"{TRIES} workers in turn ended while they started ({dead.ending}).")
        chunks = list(dead.chunks.values())
        if chunks and not in_vain:
            deaths[chunks[0].number] += 1
            if deaths[chunks[0].number] >= TRIES:
                yield lost(chunks.pop(0), f"A worker died ({dead.ending})")
        waiting.extendleft(reversed(chunks))
        dead.end()
        self.workers[place] = _Process(dead.spec)


class _Process:
    """A worker's process as the driver sees it."""

    def __init__(self, spec: WorkerSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.spec = spec
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve_worker, args=(theirs, spec), daemon=True)
        self.process.start()
        theirs.close()
        self.chunks: dict[int, Chunk] = {}
        self.answers: dict[str, Any] = {}
        self._results: list[Result] = []

    @property
    def sentinel(self) -> int:
        return self.process.sentinel

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        self.process.join(GRACE)
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def give(self, chunk: Chunk) -> bool:
        """Hand over a chunk; False if the worker is gone."""
        try:
            self.connection.send(("make", chunk))
        except OSError:
            return False
        self.chunks[chunk.number] = chunk
        return True

    def receive(self) -> bool:
        """Take in what was sent, waiting for at least one message; False if the worker is gone.

        Raises:
            UserError: the worker says that the base cannot be used.
        """
        try:
            while True:
                kind, *content = self.connection.recv()
                self._take(kind, content)
                if not self.connection.poll():
                    return True
        except (EOFError, OSError):
            return False

    def _take(self, kind: str, content: list[Any]) -> None:
        if kind == "failed":
            raise UserError(content[0])
        if kind == "made":
            number, outcomes, notes = content
            self._results.append(Result(self.chunks.pop(number), outcomes, notes))
        else:
            self.answers[kind] = content[0]

    def results(self) -> list[Result]:
        """What was received since."""
        received, self._results = self._results, []
        return received

    def stop(self) -> None:
        """Ask it to end."""
        with suppress(OSError):
            self.connection.send(("end",))
        self.connection.close()
        if self.chunks:
            self.process.terminate()

    def end(self) -> None:
        """Wait for its end, and force it after a while."""
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def serve_worker(connection: Connection, spec: WorkerSpec) -> None:
    """A worker's process: load the base, then make what is sent until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends us
    _end_with_parent()
    try:
        worker = spec.open()
    except Exception as error:
        connection.send(("failed", sentence_of(error)))
        return
    connection.send(("ready", worker.card))
    with ThreadPoolExecutor(1) as behind, suppress(EOFError, OSError):
        while (task := connection.recv())[0] != "end":
            if task[0] == "measure":
                connection.send(_measured(worker, *task[1:]))
                continue
            chunk, before = task[1], len(worker.notes)
            outcomes = worker.make(chunk)
            behind.submit(_send, connection, spec, chunk, outcomes, worker.notes[before:])


def _measured(worker: Any, items: Sequence[Item], most: int) -> tuple[str, Any]:
    try:
        return "measured", worker.measure(items, most=most)
    except Exception as error:
        return "failed", sentence_of(error)


def _send(
    connection: Connection, spec: WorkerSpec, chunk: Chunk, outcomes: Any, notes: Any
) -> None:
    connection.send(("made", chunk.number, encoded(spec.encoder, outcomes), notes))


def _end_with_parent() -> None:
    """Do not outlive the driver, however it ends."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

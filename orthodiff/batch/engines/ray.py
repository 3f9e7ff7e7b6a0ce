"""Workers on a Ray cluster, one actor each, in Ray's own `ActorPool`.

Ray moves chunks and images; what is done stands in our manifest alone. The driver writes all files,
so that nodes need to see the base and the adapters, but not the output folder.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.engines.base import TRIES, Result, encoded, lost
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item
from orthodiff.batch.worker import Worker, WorkerSpec, sentence_of
from orthodiff.errors import UserError, first_line

PER_ACTOR = 2
"""Chunks that are given out for each actor."""


class RayActor:
    """A worker as Ray holds it; errors come as sentences, which any process can read."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.worker: Worker | None = None

    def _open(self) -> Worker:
        if self.worker is None:
            self.worker = self.spec.open()
        return self.worker

    def card(self) -> BaseCard | str:
        """The base's card, or why there is none."""
        try:
            return self._open().card
        except Exception as error:
            return sentence_of(error)

    def measure(self, items: Sequence[Item], most: int) -> Measurement | str:
        """See `Worker.measure`, or why it failed."""
        try:
            return self._open().measure(items, most=most)
        except Exception as error:
            return sentence_of(error)

    def make(self, chunk: Chunk) -> Result:
        """A chunk's images as files."""
        worker = self._open()
        before = len(worker.notes)
        outcomes = encoded(self.spec.encoder, worker.make(chunk))
        return Result(chunk, outcomes, worker.notes[before:])


class RayEngine:
    """`workers` actors (None: one per GPU, or one) on the cluster at `address` or a local one."""

    def __init__(self, spec: WorkerSpec, *, workers: int | None, address: str | None) -> None:
        self.spec, self.count, self.address = spec, workers, address
        self.actors: list[Any] = []

    def __enter__(self) -> RayEngine:
        if self.address is None:
            _prepare_local()
        import ray  # reads the environment as it is imported

        try:
            ray.init(
                address=self.address,
                ignore_reinit_error=True,
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                configure_logging=False,
            )
        except Exception as error:  # of Ray, of its services, of the system
            where = f"at `{self.address}`" if self.address else "on this machine"
            raise UserError(
                f"The Ray cluster {where} cannot be used ({first_line(error)}). Check "
                "--ray_address, and the token in RAY_AUTH_TOKEN if it asks for one."
            ) from error
        self.actors = self._start()
        return self

    def _start(self) -> list[Any]:
        """Actors with a GPU each, or with their share of a CPU."""
        import ray

        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if self.spec.options.device in (None, "cuda") else 0
        count = self.count or max(gpus, 1)
        threads = self.spec.threads or max(int(resources.get("CPU", 1)) // count, 1)
        spec = replace(self.spec, threads=threads)
        options = {"num_gpus": 1} if gpus >= count else {"num_cpus": threads}
        kind: Any = ray.remote(RayActor)
        kind = kind.options(max_restarts=-1, max_task_retries=0, **options)
        return [kind.remote(spec) for _ in range(count)]

    def __exit__(self, *exception: object) -> None:
        import ray

        for actor in self.actors:
            ray.kill(actor)
        ray.shutdown()

    def card(self) -> BaseCard:
        card = self._ask("card")
        assert isinstance(card, BaseCard)
        return card

    def measure(self, items: Sequence[Item], *, most: int) -> Measurement:
        measured = self._ask("measure", items, most)
        assert isinstance(measured, Measurement)
        return measured

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What the first actor answers.

        Raises:
            UserError: it cannot do it, or the cluster is gone.
        """
        import ray

        try:
            answer = ray.get(getattr(self.actors[0], method).remote(*arguments))
        except ray.exceptions.RayError as error:
            raise UserError(
                f"A Ray worker ended while it started ({first_line(error)})."
            ) from error
        if isinstance(answer, str):
            raise UserError(answer)
        return answer

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        left: Iterable[Chunk] = chunks
        for _ in range(TRIES):
            given: dict[int, Chunk] = {}
            for result in self._round(left, given):
                del given[result.chunk.number]
                yield result
            left = list(given.values())
            if not left:
                return
        yield from (lost(chunk, "A Ray worker died") for chunk in left)

    def _round(self, chunks: Iterable[Chunk], given: dict[int, Chunk]) -> Iterator[Result]:
        """Give out every chunk once, noted in `given`; those whose worker dies have no result."""
        from ray.exceptions import RayError
        from ray.util import ActorPool

        pool, waiting = ActorPool(self.actors), iter(chunks)

        def give(count: int) -> None:
            for chunk in islice(waiting, count):
                given[chunk.number] = chunk
                pool.submit(lambda actor, each: actor.make.remote(each), chunk)

        give(PER_ACTOR * len(self.actors))
        while pool.has_next():
            # A dead actor is started anew by Ray, and its chunk is given out again by `run`.
            with suppress(RayError):
                yield pool.get_next_unordered()
            give(1)


def _prepare_local() -> None:
    """Let only this user talk to the cluster that is about to start on this machine.

    Ray runs workers at a lower priority, for the sake of machines that serve others beside; here
    they are what the machine is for.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

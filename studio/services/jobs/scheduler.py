"""Starts what waits, fairly, and notices what has ended: one thread, asleep when all is done."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from .executor import Executor, memory_of
from .job import Job
from .progress import judge_end
from .store import JobStore

PACE = 0.5
"""Seconds between two looks at what runs; a process that died is found within two of them."""
GRACE = 15.0
"""Seconds that a cancelled job gets before it is killed."""
LOGGER = logging.getLogger(__name__)


class Scheduler:
    """Moves jobs between the store and the executors, one executor per lane."""

    def __init__(
        self,
        store: JobStore,
        executors: Mapping[str, Executor],
        *,
        on_end: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self.store, self.executors, self.on_end = store, executors, on_end
        self._awake = threading.Event()
        self._closing = False
        self._asked: dict[tuple[str, int], float] = {}
        self._peaks: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def open(self) -> None:
        """Look after jobs from now on, also after those that an earlier page has started."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once: something was added or has ended."""
        self._awake.set()

    def close(self) -> None:
        """End the thread; jobs go on."""
        self._closing = True
        self.wake()
        self._thread.join(timeout=10)
        for executor in self.executors.values():
            executor.close()

    def expect(self, lane: str) -> None:
        """Somebody is here who may start a job: get ready where nothing of the lane runs."""
        if not any(job.lane == lane for job in self.store.in_status("running", "queued")):
            self.executors[lane].expect(0)

    def look(self) -> bool:
        """Notice what ended and start what can be started; whether anything waits or runs."""
        running = [job for job in self.store.in_status("running") if not self._collect(job)]
        queued = self.store.in_status("queued")
        for lane, executor in self.executors.items():
            here = [job for job in running if job.lane == lane]
            free = sorted(set(range(executor.slots)) - {int(j.handle.get("slot", 0)) for j in here})
            for slot in free[: max(executor.slots - len(here), 0)]:
                waiting = [job for job in queued if job.lane == lane]
                job = fair_choice(waiting, self.store.last_starts())
                if job:
                    queued.remove(job)
                    self._start(job, executor, slot)
        return bool(running or queued or self.store.in_status("running"))

    def _run(self) -> None:
        while not self._closing:
            self._awake.clear()
            try:
                busy = self.look()
            except Exception:
                LOGGER.exception("a look at the jobs failed")
                busy = True
            self._awake.wait(PACE if busy else None)

    def _start(self, job: Job, executor: Executor, slot: int) -> None:
        """Claim the job first, so that no other word about it can come between."""
        if not self.store.begin(job, {"slot": slot}):
            return
        claimed = self.store.get(job.id) or job
        try:
            handle = executor.start(claimed, slot)
        except Exception as error:  # a bad job must not block the others
            LOGGER.exception("job %s could not be started", job.id)
            self.store.end(claimed, "failed", error=f"It could not be started ({error}).")
            return
        self.store.attach(claimed, handle)

    def _collect(self, job: Job) -> bool:
        """Whether a running job has ended; its end is noted."""
        executor = self.executors[job.lane]
        ending = executor.ending(job)
        if ending is None:
            self._insist(job, executor)
            self._peaks[job.id] = max(self._peaks.get(job.id, 0), memory_of(job.handle))
            return False
        fresh = self.store.get(job.id) or job
        status, error, summary = judge_end(fresh, ending.code)
        summary["peak_memory"] = self._peaks.pop(job.id, 0)
        if self.store.end(fresh, status, error=error, summary=summary):
            self._asked.pop((job.id, job.attempt), None)
            self.on_end(self.store.get(job.id) or fresh)
        return True

    def _insist(self, job: Job, executor: Executor) -> None:
        """Kill what was cancelled and does not end; what was paused may take long to save."""
        if job.wish != "cancel":
            return
        asked = self._asked.setdefault((job.id, job.attempt), time.monotonic())
        if time.monotonic() - asked > GRACE:
            executor.stop(job, hard=True)


def fair_choice(waiting: Sequence[Job], last_starts: Mapping[str, float]) -> Job | None:
    """The first job of the owner who has waited longest for a start (round robin)."""
    first: dict[str, Job] = {}
    for job in waiting:
        first.setdefault(job.owner, job)
    return min(
        first.values(),
        key=lambda job: (last_starts.get(job.owner, 0.0), job.position),
        default=None,
    )


def start_order(waiting: Sequence[Job], last_starts: Mapping[str, float]) -> list[Job]:
    """The jobs of one lane in the order in which they will be started, as far as is known."""
    left, starts, order = list(waiting), dict(last_starts), []
    while (job := fair_choice(left, starts)) is not None:
        left.remove(job)
        order.append(job)
        starts[job.owner] = max(starts.values(), default=0.0) + 1.0
    return order

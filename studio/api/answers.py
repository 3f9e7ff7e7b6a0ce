"""Answers that many pages ask for again and again: built once per change, then handed out."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

MOST = 512
PACE, QUIET = 0.5, 2.0
"""Seconds that an answer holds while something it tells about runs, and otherwise."""
Built = tuple[bytes, bool]
Key = Hashable


@dataclass(frozen=True)
class Answer:
    """A body as it was built at `version` of the store, good until `until`."""

    body: bytes
    tag: str
    version: int
    until: float

    def holds(self, version: int) -> bool:
        """Whether it still tells the state of things."""
        return self.version >= version and time.monotonic() < self.until


class Answers:
    """JSON by key. Fifty pages that look at one list cost one look; no thread is woken for most.

    `version` counts the changes of the store: what was built before a change is never handed out
    after it. What a running job's folder tells grows without one, so such answers hold for `PACE`.
    """

    def __init__(self, version: Callable[[], int]) -> None:
        self.version = version
        self._answers: dict[Key, Answer] = {}
        self._building: dict[Key, asyncio.Task[Answer]] = {}

    async def give(self, request: Request, key: Key, build: Callable[[], Built]) -> Response:
        """The answer to a request; `build` gives its JSON and whether it tells of what runs."""
        answer = await self.get(key, build)
        headers = {"etag": answer.tag, "cache-control": "private, no-cache"}
        if request.headers.get("if-none-match") == answer.tag:
            return Response(status_code=304, headers=headers)
        return Response(answer.body, media_type="application/json", headers=headers)

    async def get(self, key: Key, build: Callable[[], Built]) -> Answer:
        """The answer for a key, built by the first of those who ask for it at once."""
        version = self.version()
        while (answer := self._answers.get(key)) is None or not answer.holds(version):
            task = self._building.get(key)
            if task is None:
                task = self._building[key] = asyncio.create_task(self._build(key, build))
            answer = await asyncio.shield(task)
            if answer.version >= version:  # built while we waited, however long that took
                return answer
        return answer

    async def _build(self, key: Key, build: Callable[[], Built]) -> Answer:
        try:
            version = self.version()
            body, is_live = await run_in_threadpool(build)
            tag = f'"{hashlib.blake2s(body, digest_size=12).hexdigest()}"'
            until = time.monotonic() + (PACE if is_live else QUIET)
            answer = Answer(body, tag, version, until)
            while len(self._answers) >= MOST:
                self._answers.pop(next(iter(self._answers)))
            self._answers[key] = answer
            return answer
        finally:
            self._building.pop(key, None)

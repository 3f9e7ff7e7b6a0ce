"""What the studio keeps so that many pages cost little: answers per change, and Gradio's page."""

import asyncio
import gzip
import time
from pathlib import Path
from typing import Any

import pytest

from orthodiff.studio.api.answers import PACE, Answers
from orthodiff.studio.api.shelf import Shelf
from orthodiff.studio.services.jobs.job import Job, new_id
from orthodiff.studio.services.jobs.store import JobStore
from orthodiff.studio.services.jobs.tables import open_database, sqlite_url


def test_many_who_ask_at_once_cost_one_look() -> None:
    looks = []

    def build() -> tuple[bytes, bool]:
        time.sleep(0.05)
        looks.append(1)
        return b"{}", False

    async def ask() -> set[bytes]:
        answers = Answers(lambda: 0)
        got = await asyncio.gather(*(answers.get("x", build) for _ in range(50)))
        return {answer.body for answer in got}

    assert asyncio.run(ask()) == {b"{}"}
    assert len(looks) == 1


def test_nothing_built_before_a_change_is_given_after_it() -> None:
    version = [0]

    def slow() -> tuple[bytes, bool]:
        before = version[0]
        time.sleep(0.1)
        return str(before).encode(), False

    async def ask() -> list[bytes]:
        answers = Answers(lambda: version[0])
        first = asyncio.create_task(answers.get("x", slow))
        await asyncio.sleep(0.03)  # it is being built now, on what was there before
        version[0] = 1
        second = await answers.get("x", slow)
        return [(await first).body, second.body]

    assert asyncio.run(ask()) == [b"0", b"1"]


def test_what_runs_is_looked_at_again_soon() -> None:
    looks: list[bool] = []

    async def ask(is_live: bool) -> int:
        looks.clear()
        answers = Answers(lambda: 0)

        def build() -> tuple[bytes, bool]:
            looks.append(is_live)
            return b"", is_live

        for _ in range(2):
            await answers.get("x", build)
            await asyncio.sleep(PACE + 0.05)
        return len(looks)

    assert asyncio.run(ask(True)) == 2
    assert asyncio.run(ask(False)) == 1


def test_an_error_is_not_kept() -> None:
    async def ask() -> bytes:
        answers = Answers(lambda: 0)
        with pytest.raises(ValueError, match="no"):
            await answers.get("x", _refuse)
        return (await answers.get("x", lambda: (b"yes", False))).body

    assert asyncio.run(ask()) == b"yes"


def _refuse() -> tuple[bytes, bool]:
    raise ValueError("no")


def test_the_store_counts_its_changes(tmp_path: Path) -> None:
    store = JobStore(open_database(sqlite_url(tmp_path / "x.db")))
    versions = [store.version()]
    job = store.add(Job(new_id(), "generate", "ann", "x", "queued", tmp_path, 0.0))
    for change in (
        lambda: None,
        lambda: store.begin(job, {}),
        lambda: store.end(store.get(job.id) or job, "failed"),
        lambda: store.trash(job.id),
        lambda: store.forget(job.id),
    ):
        change()
        versions.append(store.version())
    assert versions == sorted(set(versions))
    store.engine.dispose()


class Page:
    """An application that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        headers = [(b"content-type", b"text/html"), (b"set-cookie", b"a=b")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 500, "more_body": True})
        await send({"type": "http.response.body", "body": scope["state"]["owner"].encode()})


def _ask(shelf: Shelf, path: str = "/", owner: str = "ann", query: bytes = b"", **headers: str):
    scope = {
        "type": "http", "method": "GET", "path": path, "scheme": "http", "query_string": query,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        "state": {"owner": owner},
    }  # fmt: skip
    messages: list[Any] = []

    async def run() -> None:
        async def send(message: Any) -> None:
            messages.append(message)

        await shelf(scope, None, send)

    asyncio.run(run())
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], dict(messages[0]["headers"]), body


def test_the_page_is_rendered_once_for_each_user_and_host() -> None:
    page = Page()
    shelf = Shelf(page)
    for _ in range(3):
        assert _ask(shelf, host="a")[2].endswith(b"ann")
        assert _ask(shelf, owner="bob", host="a")[2].endswith(b"bob")
        assert _ask(shelf, host="b", query=b"job=j1")[2].endswith(b"ann")
    assert page.asked == 3
    assert b"set-cookie" not in _ask(shelf, host="a")[1]


def test_the_page_is_packed_and_not_sent_twice() -> None:
    shelf = Shelf(Page())
    _, headers, body = _ask(shelf, accept_encoding="gzip, br")
    assert gzip.decompress(body) == b"x" * 500 + b"ann"
    assert len(body) < 100
    assert b"no-cache" in headers[b"cache-control"]
    tag = headers[b"etag"].decode()
    status, _, body = _ask(shelf, accept_encoding="gzip", if_none_match=tag)
    assert (status, body) == (304, b"")
    assert b"immutable" in _ask(shelf, "/assets/index-DphvyggB.js")[1][b"cache-control"]


def test_the_script_for_a_page_at_rest_stands_before_all_others() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<head><script src=x></script></head>"})

    body = _ask(Shelf(app))[2]
    assert body.index(b"/studio/rest.js") < body.index(b"src=x")


def test_failures_deep_links_and_all_else_are_passed_on() -> None:
    page = Page()
    shelf = Shelf(page)
    for path, query in (("/api/jobs", b""), ("/gradio_api/queue/data", b""), ("/", b"deep_link=x")):
        for _ in range(2):
            _ask(shelf, path, query=query)
    assert page.asked == 6
    page.status = 500
    assert [_ask(shelf, host="c")[0] for _ in range(2)] == [500, 500]
    page.status = 200
    assert _ask(shelf, host="c")[0] == 200

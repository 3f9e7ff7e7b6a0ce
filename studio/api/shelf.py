"""Gradio's page and its files, rendered and packed once and then served from memory."""

from __future__ import annotations

import gzip
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

PAGE = ("/", "/config", "/config/", "/gradio_api/info", "/gradio_api/info/")
FILES = ("/assets/", "/static/", "/svelte/", "/theme.css", "/gradio_api/theme.css", "/favicon.ico",
         "/manifest.json")  # fmt: skip
HASHED = "/assets/"
"""Names in there carry a hash of the content, so a browser need never ask again."""
PACKED = ("text/", "application/json", "application/javascript", "image/svg+xml")
CONDITIONS = (b"if-none-match", b"if-modified-since", b"range", b"accept-encoding")
"""Headers that would make the application answer in part, or packed its own way."""
ROOM = 64 << 20
EARLY = b'<head><script src="/studio/rest.js"></script>'
"""Gradio adds what an application puts into the head only after its own scripts."""
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Sheet:
    """A whole answer."""

    headers: Headers
    body: bytes
    tag: bytes


class Shelf:
    """An ASGI middleware. The page is the same for a user until the server is started anew."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._sheets: OrderedDict[Any, Sheet] = OrderedDict()
        self._size = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        key = _key(scope)
        if key is None:
            await self.app(scope, receive, send)
            return
        if key not in self._sheets:
            sheet = await self._fetch(scope, receive, send)
            if sheet is None:
                return
            self._keep(key, sheet)
        self._sheets.move_to_end(key)
        await _answer(self._sheets[key], scope, send)

    async def _fetch(self, scope: Any, receive: Any, send: Any) -> Sheet | None:
        """The application's own answer; None for one that is no success, which has been sent."""
        messages: list[Any] = []

        async def collect(message: Any) -> None:
            messages.append(message)

        plain = {
            **scope,
            "headers": [h for h in scope["headers"] if h[0].lower() not in CONDITIONS],
        }
        await self.app(plain, receive, collect)
        if messages and messages[0].get("status") == 200:
            body = b"".join(message.get("body", b"") for message in messages[1:])
            return _sheet(scope, messages[0]["headers"], body)
        for message in messages:
            await send(message)
        return None

    def _keep(self, key: Any, sheet: Sheet) -> None:
        self._sheets[key] = sheet
        self._size += len(sheet.body)
        while self._size > ROOM and len(self._sheets) > 1:
            _, old = self._sheets.popitem(last=False)
            self._size -= len(old.body)


def _key(scope: Any) -> Any:
    """What the answer depends on; None for whatever is not kept."""
    path = scope.get("path", "")
    is_page = path in PAGE
    if (
        scope["type"] != "http"
        or scope["method"] != "GET"
        or not (is_page or path.startswith(FILES))
    ):
        return None
    if b"deep_link" in scope.get("query_string", b""):
        return None
    headers = dict(scope["headers"])
    packed = b"gzip" in headers.get(b"accept-encoding", b"")
    if not is_page:
        return path, packed
    names = (b"host", b"x-forwarded-host", b"x-forwarded-proto")
    return path, packed, scope["state"]["owner"], scope["scheme"], *map(headers.get, names)


def _sheet(scope: Any, headers: Headers, body: bytes) -> Sheet:
    """An answer with its tag, packed where that is understood and of use."""
    given = {name.lower(): value for name, value in headers}
    kind = given.get(b"content-type", b"").decode("latin-1")
    accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
    sent = [(name, given[name]) for name in (b"content-type",) if name in given]
    if scope["path"] == "/":
        body = body.replace(b"<head>", EARLY, 1)
    if b"gzip" in accepted and kind.startswith(PACKED):
        body = gzip.compress(body, 6, mtime=0)
        sent.append((b"content-encoding", b"gzip"))
    tag = b'"%s"' % hashlib.blake2s(body, digest_size=12).hexdigest().encode()
    age = b"private, max-age=31536000, immutable"
    control = age if scope["path"].startswith(HASHED) else b"private, no-cache"
    sent += [(b"etag", tag), (b"cache-control", control), (b"vary", b"accept-encoding, cookie")]
    return Sheet(sent, body, tag)


async def _answer(sheet: Sheet, scope: Any, send: Any) -> None:
    same = dict(scope["headers"]).get(b"if-none-match") == sheet.tag
    body = b"" if same else sheet.body
    length = [] if same else [(b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": 304 if same else 200}
    await send({**start, "headers": [*sheet.headers, *length]})
    await send({"type": "http.response.body", "body": body})

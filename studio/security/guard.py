"""The guard before every request: host, origin, what is served at all, size, login, headers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from .sessions import COOKIE, Sessions
from .users import LOCAL_USER, Users

MEBI = 1 << 20
UPLOADS = ("/api/subjects", "/api/adapters/import")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PUBLIC = ("/login", "/logout", "/api/health")
GRADIO = (
    "/assets/", "/static/", "/svelte/", "/gradio_api/run/", "/gradio_api/queue/",
    "/gradio_api/heartbeat/", "/gradio_api/call/",
)  # fmt: skip
GRADIO_EXACT = (
    "/", "/config", "/config/", "/theme.css", "/robots.txt", "/favicon.ico", "/manifest.json",
    "/gradio_api/info", "/gradio_api/info/", "/gradio_api/startup-events", "/gradio_api/cancel",
    "/gradio_api/reset", "/gradio_api/app_id", "/gradio_api/login_check", "/gradio_api/theme.css",
    "/gradio_api/user", "/gradio_api/token",
)  # fmt: skip
OURS = ("/api/", "/docs", "/openapi.json", "/studio/", *PUBLIC)
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Gradio compiles its templates in the browser, hence the two `unsafe-`. Nothing is from afar."""
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


@dataclass(frozen=True)
class Rules:
    """Names this server answers to, and the largest bodies it takes, in MiB."""

    hosts: frozenset[str]
    body: int = 4
    upload: int = 200


class Refused(BaseException):  # no Exception: FastAPI would take it for a broken body
    """A request that is not let through."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """An ASGI middleware. What it lets through has `owner` in its state."""

    def __init__(self, app: Any, *, rules: Rules, users: Users, sessions: Sessions) -> None:
        self.app, self.rules, self.users, self.sessions = app, rules, users, sessions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            self._admit(scope)
        except Refused as refusal:
            await _answer(scope, _with_headers(send), refusal)
            return
        meter = _Meter(receive, self._limit(scope["path"]))
        try:
            await self.app(scope, meter, _with_headers(send))
        except Refused as refusal:
            await _answer(scope, _with_headers(send), refusal)

    def _admit(self, scope: Any) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        self._check_host(host)
        self._check_origin(scope, headers, host)
        self._check_path(scope["path"])
        self._check_length(scope["path"], headers.get(b"content-length", ""))
        owner = self._owner(headers)
        if owner is None and scope["path"] not in PUBLIC:
            raise Refused(401, "Log in first, or send `Authorization: Bearer TOKEN`.")
        scope.setdefault("state", {})["owner"] = owner

    def _check_host(self, host: str) -> None:
        if host_name(host) not in self.rules.hosts:
            raise Refused(
                421, "This server does not answer to that name. Start it with --allow_host NAME."
            )

    def _check_origin(self, scope: Any, headers: dict[bytes, str], host: str) -> None:
        """No other site's page may make this one do anything."""
        origin = headers.get(b"origin")
        same = origin is None or origin.partition("://")[2] == host
        if scope["method"] not in SAFE_METHODS or scope["path"].startswith("/gradio_api/"):
            foreign = headers.get(b"sec-fetch-site", "none") == "cross-site"
            if not same or foreign:
                raise Refused(403, "Another site's page may not use this one.")

    def _check_path(self, path: str) -> None:
        """Nothing of Gradio is served that this page does not use: no upload, no file, no proxy."""
        ours = any(path == one.rstrip("/") or path.startswith(one) for one in OURS)
        if not ours and path not in GRADIO_EXACT and not path.startswith(GRADIO):
            raise Refused(404, "There is nothing here.")

    def _check_length(self, path: str, length: str) -> None:
        if length and (not length.isdigit() or int(length) > self._limit(path)):
            raise Refused(413, f"That is more than {self._limit(path) // MEBI} MB at once.")

    def _limit(self, path: str) -> int:
        return (self.rules.upload if path.startswith(UPLOADS) else self.rules.body) * MEBI

    def _owner(self, headers: dict[bytes, str]) -> str | None:
        if self.users.is_open:
            return LOCAL_USER
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.users.owner_of(token.strip())
        cookie = read_cookie(headers.get(b"cookie", ""))
        return self.sessions.owner_of(cookie) if cookie else None


class _Meter:
    """Counts a body that does not say its length, and ends the request where it is too large."""

    def __init__(self, receive: Any, limit: int) -> None:
        self.receive, self.left = receive, limit

    async def __call__(self) -> Any:
        message = await self.receive()
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            if self.left < 0:
                raise Refused(413, "That is too much at once.")
        return message


def host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lstrip("[").lower()
    return host.partition(":")[0].lower()


def allowed_hosts(bind: str, extra: Iterable[str]) -> frozenset[str]:
    """The names a server answers to: this computer's, the address it is bound to, and others."""
    names = {"127.0.0.1", "localhost", "::1", *(name.lower() for name in extra)}
    return frozenset(names if bind in ("0.0.0.0", "::") else {*names, bind.lower()})


def read_cookie(header: str) -> str | None:
    """The session's cookie of a Cookie header."""
    try:
        cookie = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie else None


def _with_headers(send: Any) -> Any:
    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            given: Sequence[tuple[bytes, bytes]] = message.get("headers", ())
            names = {name.lower() for name, _ in HEADERS}
            message["headers"] = [*(h for h in given if h[0].lower() not in names), *HEADERS]
        await send(message)

    return wrapped


async def _answer(scope: Any, send: Any, refusal: Refused) -> None:
    """A sentence as JSON; a person who is not logged in is sent to the login page instead."""
    is_page = scope["path"] == "/" and scope["method"] == "GET"
    if refusal.status == 401 and is_page:
        query = scope.get("query_string", b"").decode("latin-1")
        place = f"/login?{query}" if query else "/login"
        headers = [(b"location", place.encode("latin-1"))]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    body = json.dumps({"error": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""Logins that last: a random cookie, of which the database knows only the digest."""

from __future__ import annotations

import secrets
import time

from sqlalchemy import Engine, select

from ..services.jobs.tables import SESSIONS
from .users import Users, token_digest

COOKIE = "orthodiff_session"
LASTS = 14 * 86400.0
REMEMBERED = 1000


class Sessions:
    """Who is logged in. A logout, or a user who is no longer known, ends it at once."""

    def __init__(self, engine: Engine, users: Users) -> None:
        self.engine, self.users = engine, users
        self._known: dict[str, tuple[str, float]] = {}

    def begin(self, owner: str) -> str:
        """A new session; the value of its cookie."""
        value = secrets.token_urlsafe(32)
        row = {"digest": token_digest(value), "owner": owner, "expires": time.time() + LASTS}
        with self.engine.begin() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.expires < time.time()))
            connection.execute(SESSIONS.insert().values(**row))
        return value

    def owner_of(self, value: str) -> str | None:
        """Whose session a cookie is."""
        digest = token_digest(value)
        if digest not in self._known:
            with self.engine.connect() as connection:
                query = select(SESSIONS.c.owner, SESSIONS.c.expires)
                row = connection.execute(query.where(SESSIONS.c.digest == digest)).first()
            if row is None:
                return None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[digest] = (row[0], row[1])
        owner, expires = self._known[digest]
        return owner if expires > time.time() and owner in self.users.digests else None

    def end(self, value: str) -> None:
        """Log out."""
        digest = token_digest(value)
        self._known.pop(digest, None)
        with self.engine.begin() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.digest == digest))

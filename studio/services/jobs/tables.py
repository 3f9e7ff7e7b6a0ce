"""The tables of the studio, and the engine over SQLite or PostgreSQL that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from orthodiff.errors import UserError

METADATA = MetaData()
JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner", String(32), nullable=False),
    Column("name", String(80), nullable=False),
    Column("status", String(16), nullable=False),
    Column("folder", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("request", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("handle", JSON, nullable=False),
    Column("position", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("wish", String(8), nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("trashed", Float),
    Column("error", Text, nullable=False),
    Column("words", Text, nullable=False),  # what a search looks at, in small letters
    Index("jobs_of_owner", "owner", "created"),
    Index("jobs_by_status", "status"),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("owner", String(32), nullable=False),
    Column("expires", Float, nullable=False),
)
BUSY_TIMEOUT = 10_000
"""Milliseconds that a writer of SQLite waits for another one."""


def open_database(url: str) -> Engine:
    """An engine whose tables exist.

    Raises:
        UserError: the URL is none, its driver is not installed, or the server cannot be reached.
    """
    try:
        address = make_url(url)
        engine = create_engine(address, pool_pre_ping=not url.startswith("sqlite"))
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
        METADATA.create_all(engine)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"The database URL cannot be used ({error}). Write for example "
            "postgresql+psycopg://user:password@host/database (extra: postgres), or leave it "
            "out for SQLite."
        ) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        place = make_url(url).render_as_string(hide_password=True)
        raise UserError(
            f"The database {place} cannot be opened ({reason}). Check that it runs and that the "
            "user may create tables."
        ) from error
    return engine


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """Readers never wait for the writer, and a crash loses no committed row."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    cursor.close()

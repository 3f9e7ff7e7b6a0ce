"""The application: API, files and page under one guard and one login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from orthodiff.errors import UserError

from ..page import build
from ..security.guard import Guard, Rules
from ..security.rate_limit import LoginLimit
from ..security.sessions import Sessions
from ..security.users import Users
from ..services.jobs.controls import NoSuchJobError
from ..state import Studio
from ..theme import HEAD, STYLES, make_theme
from ..words import WORDS
from . import events, generate, jobs, library, pages, prompts, subjects
from .answers import Answers
from .schemas import Health
from .shelf import Shelf

STATIC = Path(__file__).parents[1] / "static"
QUEUE_PACE = 0.2
"""Seconds between two looks of Gradio's queue, which only `gradio_client` uses here."""


def make_app(studio: Studio, *, users: Users, rules: Rules) -> Guard:
    """The whole application, ready to be served."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        studio.close()

    app = FastAPI(
        title="orthodiff studio", version=_version(), docs_url=None, redoc_url=None,
        lifespan=lifespan,
    )  # fmt: skip
    sessions = Sessions(studio.engine, users)
    app.state.studio, app.state.sessions = studio, sessions
    app.state.login_limit = LoginLimit()
    app.state.answers = Answers(studio.jobs.store.version)
    app.add_api_route("/api/health", _health, tags=["health"])
    for module in (jobs, events, subjects, library, prompts, generate, pages):
        app.include_router(module.ROUTER)
    app.mount("/studio", StaticFiles(directory=STATIC), name="static")
    for kind, answer in ((UserError, _refusal), (RequestValidationError, _invalid)):
        app.add_exception_handler(kind, answer)
    page = build(studio)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth_dependency=lambda request: request.scope["state"]["owner"],
        theme=make_theme(),
        css_paths=STYLES,
        head=HEAD,
        i18n=WORDS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        allowed_paths=[],
        show_error=False,
    )
    _calm(page)
    return Guard(Shelf(app), rules=rules, users=users, sessions=sessions)


def _calm(page: gr.Blocks) -> None:
    """Let Gradio's queue sleep: it wakes 1,100 times a second, 8 % of a core for nothing."""
    page._queue.sleep_when_free = QUEUE_PACE
    page._queue.progress_update_sleep_when_free = QUEUE_PACE


async def _health() -> Health:
    """Whether the server is there; asked without a login."""
    return Health(version=_version())


def _refusal(request: Request, error: Any) -> JSONResponse:
    """A sentence for a person, and the field beside which it belongs."""
    status = 404 if isinstance(error, NoSuchJobError) else 422
    return JSONResponse({"error": str(error), "field": getattr(error, "field", "")}, status)


def _invalid(request: Request, error: Any) -> JSONResponse:
    """What does not fit the schema, in the same form, without repeating what was sent."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    name = ".".join(place)
    return JSONResponse({"error": f"`{name}`: {first['msg']}.", "field": name}, 422)


def _version() -> str:
    try:
        return version("orthodiff")
    except PackageNotFoundError:
        return "unknown"

"""The two pages that are no Gradio: the login, and the API's own documentation."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ..security.rate_limit import LoginLimit
from ..security.sessions import COOKIE, LASTS
from .context import TheStudio

ROUTER = APIRouter(include_in_schema=False)
HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<link rel="stylesheet" href="/studio/plain.css"></head><body>'
)
LOGIN = (
    HEAD.format(title="orthodiff studio: log in")
    + '<main class="login"><h1>orthodiff <span>studio</span></h1>{problem}'
    '<form method="post" action="/login{query}"><label for="token">Token</label>'
    '<input id="token" name="token" type="password" autocomplete="current-password" required '
    'autofocus><button type="submit">Log in</button></form>'
    "<p>Whoever started this studio has your token.</p></main></body></html>"
)
WRONG = '<p role="alert" class="problem">This token is not known here.</p>'
TOO_OFTEN = '<p role="alert" class="problem">Too many attempts. Try again in a minute.</p>'


@ROUTER.get("/login", response_class=HTMLResponse)
def login_page(request: Request) -> Response:
    """The form, or the page itself for those who need no login."""
    if request.scope["state"]["owner"] is not None:
        return RedirectResponse("/", 303)
    return _form(request)


@ROUTER.post("/login")
def login(request: Request, token: str = Form(max_length=200)) -> Response:
    """Take a token, give a cookie that no script can read and no other site can send."""
    limit: LoginLimit = request.app.state.login_limit
    sessions = request.app.state.sessions
    address = request.client.host if request.client else ""
    if not limit.is_open(address):
        return _form(request, TOO_OFTEN, 429)
    owner = sessions.users.owner_of(token.strip())
    if owner is None:
        limit.failed(address)
        return _form(request, WRONG, 403)
    response = RedirectResponse(f"/{_query(request)}", 303)
    response.set_cookie(
        COOKIE,
        sessions.begin(owner),
        max_age=int(LASTS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@ROUTER.post("/logout")
def logout(request: Request) -> Response:
    """End the session."""
    value = request.cookies.get(COOKIE)
    if value:
        request.app.state.sessions.end(value)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


@ROUTER.get("/docs", response_class=HTMLResponse)
def docs(request: Request, studio: TheStudio) -> str:
    """The API, told from its own OpenAPI description; nothing is fetched from elsewhere."""
    schema = request.app.openapi()
    body = "".join(
        _endpoint(path, method, operation)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    )
    models = "".join(map(_model, schema["components"]["schemas"].items()))
    return (
        HEAD.format(title="orthodiff studio: API")
        + '<main class="docs"><h1>orthodiff studio API</h1><p>Send <code>Authorization: Bearer '
        "TOKEN</code> where a login is needed. The description for programs is <a "
        f'href="/openapi.json">openapi.json</a>.</p>{body}<h2>Models</h2>{models}</main></body></html>'
    )


def _form(request: Request, problem: str = "", status: int = 200) -> HTMLResponse:
    page = LOGIN.replace("{problem}", problem).replace("{query}", _query(request))
    return HTMLResponse(page, status)


def _query(request: Request) -> str:
    """The job that was asked for, which is shown after the login."""
    job = request.query_params.get("job", "")
    return f"?job={quote(job, safe='')}" if job else ""


def _endpoint(path: str, method: str, operation: dict[str, Any]) -> str:
    inputs = [
        f"<li><code>{escape(p['name'])}</code> in {p['in']}</li>"
        for p in operation.get("parameters", ())
    ]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        inputs.append(f"<li>body ({escape(kind)}): {_reference(media['schema'])}</li>")
    outputs = [
        f"<li>{status}: {_answer(answer)}</li>" for status, answer in operation["responses"].items()
    ]
    return (
        f"<section><h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"<ul>{''.join(inputs + outputs)}</ul></section>"
    )


def _answer(answer: dict[str, Any]) -> str:
    schemas = [media.get("schema", {}) for media in answer.get("content", {}).values()]
    return ", ".join(map(_reference, schemas)) or escape(answer.get("description", ""))


def _reference(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "items" in schema:
        return f"list of {_reference(schema['items'])}"
    return escape(str(schema.get("type", "any")))


def _model(entry: tuple[str, dict[str, Any]]) -> str:
    name, schema = entry
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_kind(about)}</td>"
        f"<td>{escape(str(about.get('description', '')))}</td></tr>"
        for field, about in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3>'
        f"<p>{escape(schema.get('description', ''))}</p><table>{rows}</table></section>"
    )


def _kind(about: dict[str, Any]) -> str:
    options = about.get("anyOf", [about])
    return " or ".join(_reference(option) for option in options)

"""Small pieces of HTML. Whatever a person or a file wrote is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from orthodiff.errors import UserError

from ..words import SAID

PURPOSE = "Teach a model your subject from a handful of photos, then see it anywhere."


def said(text: str) -> str:
    """A sentence that the page translates where it knows it."""
    return f"<od-t>{escape(text)}</od-t>"


def header() -> str:
    """The name of the page and what it is for."""
    return (
        '<header class="masthead"><h1>orthodiff <span>studio</span></h1>'
        f"<p>{said(PURPOSE)}</p></header>"
    )


def heading(number: int, title: str, hint: str = "") -> str:
    """The heading of one step of a form."""
    SAID.update((title, hint))
    more = f"<small>{said(hint)}</small>" if hint else ""
    place = f"<i>{number}</i>" if number else ""
    return f'<h2 class="step">{place}{said(title)}{more}</h2>'


def problem(error: UserError | str, *, prefix: str = "") -> str:
    """A sentence that says what is wrong; the page also puts it beside the field."""
    sentence = str(error)
    if not sentence:
        return ""
    field = getattr(error, "field", "")
    place = f' data-field="{escape(f"{prefix}-{field}")}"' if field else ""
    return f'<div class="message problem" role="alert"{place}>{said(sentence)}</div>'


def note(sentence: str) -> str:
    """A sentence that says what was done, or what to know."""
    return f'<div class="message note" role="status">{said(sentence)}</div>' if sentence else ""


def warning(sentence: str) -> str:
    """A sentence that says what will not go well."""
    text = said(sentence)
    return f'<div class="message report advice" role="status">{text}</div>' if sentence else ""


def strip(name: str, files: Sequence[Path]) -> str:
    """The images of an example subject in one row."""
    cells = "".join(
        f'<img src="/api/examples/{escape(name)}/{escape(path.name)}" alt="{escape(name)} {number}"'
        ' loading="lazy">'
        for number, path in enumerate(files, start=1)
    )
    return f'<div class="strip">{cells}</div>'


def facts(lines: Sequence[tuple[str, str]], *, title: str) -> str:
    """A card of names and values."""
    rows = "".join(
        f"<div><dt>{said(name)}</dt><dd>{said(value)}</dd></div>" for name, value in lines
    )
    return f'<div class="card plan"><h3>{said(title)}</h3><dl>{rows}</dl></div>'


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

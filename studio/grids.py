"""Pictures set out as HTML: what belongs together stands in one row, small ones enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from studio.painter import Painted
from studio.studio import shown

NEWEST = 8
"""Steps with samples that are shown."""


def strip(files: Sequence[Path], *, title: str) -> str:
    """The pictures of a subject in one row."""
    cells = "".join(_picture(path, f"{title} {n}") for n, path in enumerate(files, start=1))
    return f'<div class="strip">{cells}</div>'


def samples(folder: Path, events: Sequence[Mapping[str, Any]]) -> str:
    """A row per step, the newest first, and a column per prompt; empty without pictures."""
    rows = "".join(_sample_row(folder, event) for event in list(reversed(events))[:NEWEST])
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(str(prompt))}</th>" for prompt in events[-1]["prompts"])
    return (
        '<div class="card pictures"><h3>Sample pictures</h3><table><thead><tr><td></td>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def comparison(painted: Painted) -> str:
    """For each prompt the base's row over the adapter's, the same seeds in the same columns."""
    parts = []
    for prompt in dict.fromkeys(painted.prompts):
        places = [number for number, other in enumerate(painted.prompts) if other == prompt]
        heads = "".join(f"<th>seed {painted.seeds[place]}</th>" for place in places)
        rows = [("Base", painted.base), ("Adapted", painted.adapted)]
        body = "".join(_row(title, files, places) for title, files in rows if files)
        parts.append(
            f"<h3>{escape(prompt)}</h3><table><thead><tr><td></td>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )
    return f'<div class="card pictures" id="comparison">{"".join(parts)}</div>'


def _row(title: str, files: Sequence[Path], places: Sequence[int]) -> str:
    pictures = [_picture(files[place], f"{title} {files[place].stem}") for place in places]
    cells = "".join(f"<td>{picture}</td>" for picture in pictures)
    return f'<tr class="{title.lower()}"><th scope="row">{title}</th>{cells}</tr>'


def _sample_row(folder: Path, event: Mapping[str, Any]) -> str:
    files = [folder / path for path in event["paths"]]
    if not files or not all(path.is_file() for path in files):
        return ""
    step = "Before" if event["step"] == 0 else f"Step {event['step']}"
    cells = "".join(f"<td>{_picture(path, step)}</td>" for path in files)
    return f'<tr><th scope="row">{step}</th>{cells}</tr>'


def _picture(path: Path, title: str) -> str:
    """A picture that opens by itself on a click, under the name of its file."""
    link = f"gradio_api/file={quote(shown(path))}"
    return (
        f'<a href="{link}" target="_blank" title="Open {escape(path.name)}">'
        f'<img src="{link}" alt="{escape(title)}" loading="lazy"></a>'
    )

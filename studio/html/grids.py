"""Pictures set out as HTML: what belongs together stands in one row, small ones enlarged."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from ..services.maps import UsedMap
from ..services.sampler import Painted
from ..state import shown

NEWEST = 8
"""Steps with samples that are shown."""
MAP_SIDE = 512


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
    """Each group of pictures: the base's row over the adapter's, seeds in columns."""
    groups = "".join(_group(painted, places) for places in painted.groups)
    return f'<div class="card pictures">{groups}</div>'


def used_maps(maps: Sequence[UsedMap]) -> str:
    """What was given beside the map that is made of it, and what was done on the way."""
    return f'<div class="maps">{"".join(map(_used_map, maps))}</div>'


def _group(painted: Painted, places: range) -> str:
    heads = "".join(f"<th>seed {painted.seeds[place]}</th>" for place in places)
    steered = painted.map_of(places[0])
    title = "With map" if steered else "Adapted"
    rows = (
        ("Base", "base", painted.base),
        (title, "adapted", painted.adapted),
        ("Overlay", "overlay", painted.overlays),
    )
    body = "".join(_row(title, kind, files, places) for title, kind, files in rows if files)
    used = f'<span class="map">{_picture(steered, "Map")}</span>' if steered else ""
    return (
        f"<h3>{used}{escape(painted.prompts[places[0]])}</h3>"
        f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(title: str, kind: str, files: Sequence[Path], places: range) -> str:
    """The files at these places; the base's, which no map steers, come round again."""
    chosen = [files[place % len(files)] for place in places]
    cells = "".join(f"<td>{_picture(path, f'{title} {path.stem}')}</td>" for path in chosen)
    return f'<tr class="{kind}"><th scope="row">{title}</th>{cells}</tr>'


def _used_map(shown: UsedMap) -> str:
    width, height = shown.used.size
    told = f"<p>{escape(shown.note)}</p>" if shown.note else ""
    given = f'<img src="{_inline(shown.given)}" alt="{escape(shown.name)}">'
    return (
        f"<figure><div>{given if shown.given is not shown.used else ''}"
        f'<img class="used" src="{_inline(shown.used)}" alt="Map"></div>'
        f"<figcaption>{escape(shown.name)} · its map, {width} x {height}</figcaption>"
        f"{told}</figure>"
    )


def _inline(picture: Image.Image) -> str:
    """A picture inside the page itself, no larger than it is shown."""
    small, packed = picture.copy(), io.BytesIO()
    small.thumbnail((MAP_SIDE, MAP_SIDE))
    small.save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


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

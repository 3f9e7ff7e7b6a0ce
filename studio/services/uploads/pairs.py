"""Which caption and which control image belongs to which photo of an upload: by their names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from orthodiff.errors import UserError

from .decode import Decoded

CONTROL_FOLDERS = {
    "conditioning", "conditioning_image", "conditioning_images", "control", "control_image",
    "control_images", "controls", "hints", "maps",
}  # fmt: skip
"""Folders of an archive whose images are control images."""
CAPTIONS = ("text", "prompt", "caption")
CONTROLS = ("conditioning_image", "conditioning_image_file_name", "control_image")


@dataclass(frozen=True)
class Paired:
    """A photo with what belongs to it."""

    photo: Decoded
    caption: str = ""
    control: Decoded | None = None


def pair_up(decoded: Sequence[Decoded], *, controls_from: int) -> tuple[list[Paired], list[str]]:
    """Photos with captions and control images of the same stem, and sentences about the rest.

    Uploads from `controls_from` on are control images, as are those in a folder of that name.
    A `metadata.jsonl` may name captions and control images instead.

    Raises:
        UserError: two photos share a name that a caption or a control image refers to.
    """
    images = [one for one in decoded if one.path]
    controls = {
        _stem(one.name): one for one in images if one.upload >= controls_from or _is_control(one)
    }
    photos = [one for one in images if one not in controls.values()]
    texts = {_stem(one.name): one.text for one in decoded if one.text and one.name.endswith(".txt")}
    listed = _listed(decoded)
    _refuse_twins(photos, {*controls, *texts, *listed})
    paired = [_paired(photo, controls, texts, listed) for photo in photos]
    used = [one.control for one in paired if one.control]
    alone = [one.name for one in controls.values() if one not in used]
    return paired, [
        f"The control image `{_base(name)}` has no photo of its name." for name in alone
    ]


def _paired(
    photo: Decoded,
    controls: Mapping[str, Decoded],
    texts: Mapping[str, str],
    listed: Mapping[str, Mapping[str, object]],
) -> Paired:
    stem = _stem(photo.name)
    row = listed.get(stem, {})
    caption = texts.get(stem) or _first(row, CAPTIONS)
    named = _first(row, CONTROLS)
    return Paired(photo, caption, controls.get(_stem(named) if named else stem))


def _listed(decoded: Sequence[Decoded]) -> dict[str, Mapping[str, object]]:
    """The rows of lists, by the stem of the image that they are about; broken lines are no rows."""
    rows: dict[str, Mapping[str, object]] = {}
    for one in decoded:
        for line in (one.text or "").splitlines() if one.name.endswith(".jsonl") else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("file_name"), str):
                rows[_stem(row["file_name"])] = row
    return rows


def _refuse_twins(photos: Sequence[Decoded], referred: set[str]) -> None:
    for stem, count in Counter(_stem(photo.name) for photo in photos).items():
        if count > 1 and stem in referred:
            raise UserError(
                f"{count} images are called `{stem}`, so it cannot be said to which of them the "
                "caption or control image of that name belongs. Give each image its own name."
            )


def _first(row: Mapping[str, object], names: Sequence[str]) -> str:
    return next((str(row[name]) for name in names if isinstance(row.get(name), str)), "")


def _is_control(one: Decoded) -> bool:
    parents = PurePosixPath(one.name.replace("\\", "/")).parts[:-1]
    return any(part.lower() in CONTROL_FOLDERS for part in parents)


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _stem(name: str) -> str:
    return PurePosixPath(_base(name)).stem

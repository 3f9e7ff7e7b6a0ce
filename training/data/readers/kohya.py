"""The tree of kohya's scripts: folders named `10_sks dog`, ten repeats of the caption "sks dog"."""

from __future__ import annotations

import re
from pathlib import Path

from .folder import gather, listing, training_pictures
from .records import Found, Request

NAME = re.compile(r"(\d{1,6})_(.+)")


def recognises(folder: Path) -> bool:
    """A folder of such folders with no pictures of its own, or one of them."""
    if training_pictures(folder):
        return bool(NAME.fullmatch(folder.resolve().name))
    return bool(leaves(folder))


def leaves(folder: Path) -> list[Path]:
    """The folders in `folder` that are named like this and hold pictures."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and NAME.fullmatch(child.name) and training_pictures(child)
    )


def read(folder: Path, request: Request) -> Found:
    """All its folders, each with its repeats; a caption file wins over the folder's name."""
    if training_pictures(folder):
        found = Found("one folder of a kohya tree")
        _read_leaf(found, folder, root=folder, request=request)
        name = folder.resolve().name
        found.remarks.append(
            f"`{name}` is read as kohya's scripts do: a number of repeats, then the caption of "
            "pictures without one. Rename the folder if neither is meant."
        )
        return found
    found, taken = Found("a kohya tree"), leaves(folder)
    for leaf in taken:
        _read_leaf(found, leaf, root=folder, request=request)
    others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p not in taken)
    if others:
        found.remarks.append(
            f"{listing(others)}: left out, for there are no pictures in it or its name is not like "
            "`10_sks dog`."
        )
    return found


def _read_leaf(found: Found, leaf: Path, *, root: Path, request: Request) -> None:
    match = NAME.fullmatch(leaf.resolve().name if leaf == root else leaf.name)
    assert match  # `recognises` has seen to it
    repeats, words = int(match[1]), " ".join(match[2].split())
    if repeats == 0:
        found.remarks.append(f"`{leaf.name}` is left out: its name asks for 0 repeats.")
        return
    gather(found, leaf, root=root, request=request, fallback=words, repeats=repeats)

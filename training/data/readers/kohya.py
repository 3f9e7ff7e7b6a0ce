"""The tree of kohya's scripts: folders named `10_sks dog`, ten repeats of the caption "sks dog"."""

from __future__ import annotations

import re
from pathlib import Path

from .folder import gather, name_list, training_images
from .records import DataRequest, Listing

NAME = re.compile(r"(\d{1,6})_(.+)")


def recognises(folder: Path) -> bool:
    """A folder of such folders with no images of its own, or one of them."""
    if training_images(folder):
        return bool(NAME.fullmatch(folder.resolve().name))
    return bool(leaves(folder))


def leaves(folder: Path) -> list[Path]:
    """The folders in `folder` that are named like this and hold images."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and NAME.fullmatch(child.name) and training_images(child)
    )


def read(folder: Path, request: DataRequest) -> Listing:
    """All its folders, each with its repeats; a caption file wins over the folder's name."""
    if training_images(folder):
        listing = Listing("one folder of a kohya tree")
        _read_leaf(listing, folder, root=folder, request=request)
        name = folder.resolve().name
        listing.remarks.append(
            f"`{name}` is read as kohya's scripts do: a number of repeats, then the caption of "
            "images without one. Rename the folder if neither is meant."
        )
        return listing
    listing, taken = Listing("a kohya tree"), leaves(folder)
    for leaf in taken:
        _read_leaf(listing, leaf, root=folder, request=request)
    others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p not in taken)
    if others:
        listing.remarks.append(
            f"{name_list(others)}: left out, for there are no images in it or its name is not like "
            "`10_sks dog`."
        )
    return listing


def _read_leaf(listing: Listing, leaf: Path, *, root: Path, request: DataRequest) -> None:
    match = NAME.fullmatch(leaf.resolve().name if leaf == root else leaf.name)
    assert match  # `recognises` has seen to it
    repeats, words = int(match[1]), " ".join(match[2].split())
    if repeats == 0:
        listing.remarks.append(f"`{leaf.name}` is left out: its name asks for 0 repeats.")
        return
    gather(listing, leaf, root=root, request=request, fallback=words, repeats=repeats)

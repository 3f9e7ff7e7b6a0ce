"""The tree of kohya's scripts: folders named `10_sks dog`, ten repeats of the caption "sks dog"."""

from __future__ import annotations

import re
from pathlib import Path

from orthodiff.errors import FileError, is_unicode
from orthodiff.io.images import list_images

from .folder import add_records, name_list
from .mask_files import MaskFinder
from .records import DataRequest, Listing
from .scan import scan_folder

NAME = re.compile(r"(\d{1,6})_(.+)")


def recognises(folder: Path) -> bool:
    """A folder of such folders with no images of its own, or one of them."""
    if list_images(folder):
        return bool(NAME.fullmatch(folder.resolve().name))
    return bool(leaves(folder))


def leaves(folder: Path) -> list[Path]:
    """The folders in `folder` that are named like this and hold images."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and NAME.fullmatch(child.name) and list_images(child)
    )


def read(folder: Path, request: DataRequest) -> Listing:
    """All its folders, each with its repeats; a caption file wins over the folder's name."""
    if list_images(folder):
        masks = MaskFinder(folder, request.mask_dir)
        listing = Listing("one folder of a kohya tree")
        name = folder.resolve().name
        _read_leaf(listing, folder, name, root=folder, masks=masks)
        listing.remarks.append(
            f"`{name}` is read as kohya's scripts do: a number of repeats, then the caption of "
            "images without one. Rename the folder if neither is meant."
        )
        return listing
    return read_tree(folder, request)


def read_tree(folder: Path, request: DataRequest) -> Listing:
    """All folders in `folder`, even if there are images beside them."""
    masks = MaskFinder(folder, request.mask_dir)
    listing, folders = Listing("a kohya tree"), leaves(folder)
    for leaf in folders:
        _read_leaf(listing, leaf, leaf.name, root=folder, masks=masks)
    others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p not in folders)
    if others:
        listing.remarks.append(
            f"{name_list(others)}: left out, for there are no images in it or its name is not "
            "like `10_sks dog`."
        )
    return listing


def _read_leaf(listing: Listing, leaf: Path, name: str, *, root: Path, masks: MaskFinder) -> None:
    match = NAME.fullmatch(name)
    assert match  # `recognises` has seen to it
    repeats, caption = int(match[1]), " ".join(match[2].split())
    if repeats == 0:
        listing.remarks.insert(
            0,
            f"`{name}` is left out: its name asks for 0 repeats. Name it `1_{match[2]}` to learn "
            "from it.",
        )
        return
    if not is_unicode(caption):
        reason = "its name, which is a caption, is not in UTF-8"
        listing.problems.append(FileError(name, reason, "Rename the folder", what="folder"))
        return
    scan = scan_folder(leaf)
    add_records(listing, scan, root=root, masks=masks, fallback=caption, repeats=repeats)

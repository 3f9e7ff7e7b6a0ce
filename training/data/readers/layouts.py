"""The layouts that are recognised by themselves: one reader, one file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orthodiff.errors import UserError
from orthodiff.io.images import SUFFIXES
from orthodiff.registry import Registry

from ..masks import check_subject_mask
from . import (
    folder,
    imagefolder,
    kohya,
    webdataset,
)
from . import (
    hub_dataset as hub,
)
from .folder import name_list
from .mask_files import check_mask_dir, refuse_wrong_layers
from .records import DataRequest, Listing


@dataclass(frozen=True)
class DataLayout:
    """`recognises` a folder, and can `read` it then; some list what they hold in columns."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path, DataRequest], Listing]
    has_columns: bool = False


LAYOUTS: Registry[DataLayout] = Registry(
    "data layout",
    group="orthodiff.layouts",
    builtin={
        "imagefolder": DataLayout(imagefolder.recognises, imagefolder.read, has_columns=True),
        "datasets": DataLayout(hub.recognises, hub.read, has_columns=True),
        "webdataset": DataLayout(webdataset.recognises, webdataset.read),
        "kohya": DataLayout(kohya.recognises, kohya.read),
        "folder": DataLayout(folder.recognises, folder.read),
    },
)
"""The first that recognises a folder reads it: those of other packages, then these in order."""
BUILTIN = ("imagefolder", "datasets", "webdataset", "kohya", "folder")


def layout_of(place: Path) -> str | None:
    """The name of the layout that recognises a folder."""
    names = sorted(LAYOUTS, key=lambda name: BUILTIN.index(name) if name in BUILTIN else -1)
    return next((name for name in names if LAYOUTS[name].recognises(place)), None)


def folders_with_images(place: Path) -> list[str]:
    """The folders in a folder that could be read."""
    children = sorted(child for child in place.iterdir() if child.is_dir())
    return [child.name for child in children if layout_of(child)]


def find(request: DataRequest) -> Listing:
    """List all there is at the place asked for.

    Raises:
        UserError: nothing, or nothing that could be recognised.
    """
    check_mask_dir(request.mask_dir)
    if request.subject_mask:
        check_subject_mask()
    listing = _read(request)
    refuse_wrong_layers(listing, request.mask_dir)
    if not listing.records and not listing.problems:
        why = f" {listing.remarks[0]}" if listing.remarks else " Check the path."
        raise UserError(f"`{request.place}` holds no images to train on.{why}")
    if request.mask_dir and not (request.alpha_mask or request.subject_mask):
        listing.remarks.extend(_without_mask(listing, request.mask_dir))
    return listing


def _without_mask(listing: Listing, mask_dir: Path) -> list[str]:
    """A remark on images that the folder of masks has nothing for."""
    without = [record.name for record in listing.records if record.mask is None]
    if not without:
        return []
    example = f"{Path(without[0]).stem}.png"
    return [
        f"{name_list(without)}: no mask such as `{example}` in `{mask_dir}`, so all is learned."
    ]


def _read(request: DataRequest) -> Listing:
    place = request.folder
    if place is None:
        return hub.read_dataset(request.dataset or "", request)
    if not place.is_dir():
        raise UserError(_no_folder(place))
    name = layout_of(place)
    if name is None:
        raise UserError(_no_images(place))
    layout = LAYOUTS[name]
    listing = layout.read(place, request)
    if not layout.has_columns:
        listing.remarks.extend(_idle_columns(request))
    return listing


def _idle_columns(request: DataRequest) -> list[str]:
    asked = [name for name in vars(request.columns).values() if name]
    return [
        f"There is no column `{name}`: images, captions and masks lie side by side. Add a "
        "metadata.jsonl for columns."
        for name in asked
    ]


def _no_folder(place: Path) -> str:
    if place.exists():
        return f"`{place}` is a file. Give the folder that the images lie in."
    return f"The image folder `{place}` does not exist. Check the path."


def _no_images(place: Path) -> str:
    """What to pick instead, where images lie one folder deeper."""
    if deeper := folders_with_images(place):
        return (
            f"The folder `{place}` holds no images, only folders with images. Give one of "
            f"them: {name_list(deeper)}."
        )
    kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    others = sorted(p.name for p in place.iterdir() if p.is_file() and not p.name.startswith("."))
    lies = f" (there is {name_list(others)})" if others else ""
    return (
        f"The folder `{place}` holds no images{lies}. Put 3 to 10 images of the subject "
        f"directly into it ({kinds})."
    )

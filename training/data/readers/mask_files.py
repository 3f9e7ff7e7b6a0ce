"""Which file is the mask of an image: beside it, in a table, or in a folder of masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from orthodiff.errors import FileError, UserError
from orthodiff.io.images import MASK_LABEL

from .files import path_within
from .records import Listing, Record
from .scan import ENDINGS, FolderScan, scan_folder


class MaskFinder:
    """Finds masks of the images under `root`: beside them, else in `mask_dir`.

    There an image in a folder has its mask in a folder of the same name, `mask_dir/5_a/00.png`
    for `5_a/00.png`, or where all lie flat under its own name.
    """

    def __init__(self, root: Path, mask_dir: Path | None) -> None:
        self.root, self.mask_dir = root, mask_dir
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, image: Path, *, beside: str | None = None) -> Path | None:
        """The mask of an image; `beside` names the one in its folder, where that is known.

        Raises:
            FileError: there is a mask, but it leads out of its folder.
        """
        if beside is not None:
            return path_within(
                self.root, os.path.relpath(image.with_name(beside), self.root), what="mask"
            )
        if self.mask_dir is None:
            return None
        parent = Path(os.path.relpath(image.parent, self.root))
        for folder in dict.fromkeys((parent, Path())):
            names = self._in(self.mask_dir / folder)
            for stem in (image.stem, f"{image.stem}{MASK_LABEL}"):
                if stem in names:
                    return path_within(self.mask_dir, folder / names[stem], what="mask")
        return None

    def _in(self, folder: Path) -> dict[str, str]:
        """The first image of each stem in a folder of masks."""
        if folder not in self._names:
            scan = scan_folder(folder) if folder.is_dir() else FolderScan(folder)
            names = [*scan.images, *scan.masks.values()]
            self._names[folder] = {
                os.path.splitext(name)[0]: name for name in sorted(names, key=_rank, reverse=True)
            }
        return self._names[folder]


def check_mask_dir(mask_dir: Path | None) -> None:
    """Refuse a folder of masks that is none.

    Raises:
        UserError: naming it.
    """
    if mask_dir is not None and not mask_dir.is_dir():
        raise UserError(f"`mask_dir` is `{mask_dir}`, which is not a folder. Check the path.")


def refuse_wrong_layers(listing: Listing, mask_dir: Path | None) -> None:
    """Move records to the problems whose mask or control image cannot be meant.

    Such are an image of the data itself, and in a folder of masks one that two images would share.
    """
    files = (record.image for record in listing.records)
    images = {os.path.abspath(path) for path in files if isinstance(path, Path)}
    owners: dict[Path, Record] = {}
    usable: list[Record] = []
    for record in listing.records:
        problem = next(_layer_problems(record, images, owners, mask_dir), None)
        listing.problems.extend([problem] if problem else [])
        usable.extend([] if problem else [record])
    listing.records[:] = usable


def _layer_problems(
    record: Record, images: set[str], owners: dict[Path, Record], mask_dir: Path | None
) -> Iterator[FileError]:
    for what, layer in (("mask", record.mask), ("control image", record.control_image)):
        if isinstance(layer, Path) and images & {os.path.abspath(layer), os.path.realpath(layer)}:
            reason = f"its {what} `{layer.name}` is itself one of the images"
            yield FileError(record.name, reason, f"Give the {what}s a folder of their own")
    if mask_dir and isinstance(record.mask, Path) and record.mask.is_relative_to(mask_dir):
        first = owners.setdefault(record.mask, record)
        if first is not record:
            reason = f"its mask `{record.mask.name}` is also that of `{first.name}`"
            remedy = f"Put its own at `{Path(record.name).with_suffix('.png')}` in the mask folder"
            yield FileError(record.name, reason, remedy)


def _rank(name: str) -> int:
    ending = os.path.splitext(name)[1]
    return ENDINGS.index(ending) if ending in ENDINGS else len(ENDINGS)

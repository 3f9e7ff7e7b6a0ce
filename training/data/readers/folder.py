"""A flat folder: images, with captions (`.txt`, `.caption`) and masks of the same stem beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import FileError, printable
from orthodiff.io.images import list_images

from .files import first_caption, path_within
from .mask_files import MaskFinder
from .records import DataRequest, Listing, Record
from .scan import FolderScan, scan_folder

SILENT = {".json", ".jsonl", ".csv", ".md", ".npz", ".safetensors", ".yaml", ".toml", ".ini", ".db"}
"""What often lies beside images without being meant as one."""
SIDECARS = {".json", ".yaml"}
"""What some programs write captions to, one file an image."""


def recognises(folder: Path) -> bool:
    """Any folder with images directly in it."""
    return bool(list_images(folder))


def read(folder: Path, request: DataRequest) -> Listing:
    """Every image under its own caption, else under the prompt of the run."""
    listing = Listing("a flat folder")
    scan = scan_folder(folder)
    masks = MaskFinder(folder, request.mask_dir)
    add_records(listing, scan, root=folder, masks=masks, fallback=request.caption)
    if scan.folders:
        listing.remarks.append(f"{name_list(scan.folders)}: folders in the folder are left out.")
    return listing


def add_records(
    listing: Listing,
    scan: FolderScan,
    *,
    root: Path,
    masks: MaskFinder,
    fallback: str,
    repeats: int = 1,
) -> None:
    """Add the images of one folder to what was found in `root`."""
    if scan.folder != root:
        try:
            path_within(root, scan.folder.relative_to(root), what="folder", is_folder=True)
        except FileError as problem:
            listing.problems.append(problem)
            return
    firsts: dict[str, str] = {}
    for name in scan.images:
        try:
            record = _record(scan, name, root, masks, fallback=fallback, repeats=repeats)
            _check_alone(name, firsts, record)
        except FileError as problem:
            listing.problems.append(problem)
        else:
            listing.records.append(record)
    listing.problems.extend(
        FileError(_relative(scan, root, name), "it is a link that leads nowhere", "Remove it")
        for name in scan.broken
    )
    listing.remarks.extend(_left_out(scan))


def name_list(names: Sequence[str], *, most: int = 4) -> str:
    """The first of some file names, and how many more there are."""
    first = ", ".join(f"`{printable(name)}`" for name in names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def _record(
    scan: FolderScan, file: str, root: Path, masks: MaskFinder, *, fallback: str, repeats: int
) -> Record:
    name, stem = _relative(scan, root, file), Path(file).stem
    image = path_within(root, name) if file in scan.links else root / name
    captions = (scan.folder / caption for caption in scan.captions.get(stem, ()))
    caption = first_caption(captions, root)
    return Record(
        name=name,
        image=image,
        caption=caption or fallback,
        has_own_caption=bool(caption),
        mask=masks.find(image, beside=scan.masks.get(stem)),
        repeats=repeats,
    )


def _relative(scan: FolderScan, root: Path, file: str) -> str:
    return file if scan.folder == root else f"{scan.folder.relative_to(root).as_posix()}/{file}"


def _check_alone(file: str, firsts: dict[str, str], record: Record) -> None:
    """Refuse a caption or a mask that would belong to two images.

    Raises:
        FileError: naming both images.
    """
    first = firsts.setdefault(Path(file).stem, file)
    if file == first or not (record.has_own_caption or record.mask):
        return
    reason = f"it has the same caption or mask file as `{first}`"
    raise FileError(record.name, reason, "Rename one of the two")


def _left_out(scan: FolderScan) -> list[str]:
    """Remarks on files that are neither images nor belong to one."""
    stems = {Path(name).stem for name in scan.images}
    captions = [n for stem, names in scan.captions.items() if stem not in stems for n in names]
    masks = [name for stem, name in scan.masks.items() if stem not in stems]
    suffixes = {name: Path(name).suffix.lower() for name in scan.others}
    sidecars = [n for n, s in suffixes.items() if s in SIDECARS and Path(n).stem in stems]
    others = [name for name, suffix in suffixes.items() if suffix not in SILENT]
    remarks = []
    if captions or masks:
        remarks.append(
            f"{name_list([*captions, *masks])}: no image here has this name before the dot."
        )
    if sidecars:
        remarks.append(f"{name_list(sidecars)}: not read; captions are those of `.txt` files.")
    if others:
        remarks.append(f"{name_list(others)}: not a kind of image that is read, left out.")
    return remarks

"""A flat folder: images, with captions (`.txt`, `.caption`) and masks of the same stem beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from orthodiff.errors import FileError, printable
from orthodiff.io.images import is_picture_name, pictures_in

from ..masks import is_mask_name, mask_of
from .files import (
    captions_in,
    first_caption,
    inside,
    is_caption_name,
)
from .records import DataRequest, Listing, Record

SILENT = {".json", ".jsonl", ".csv", ".md", ".npz", ".safetensors", ".yaml", ".toml", ".ini", ".db"}
"""What often lies beside images without being meant as one."""


def recognises(folder: Path) -> bool:
    """Any folder with images directly in it."""
    return bool(training_images(folder))


def read(folder: Path, request: DataRequest) -> Listing:
    """Every image under its own caption, else under the prompt of the run."""
    listing = Listing("a flat folder")
    gather(listing, folder, root=folder, request=request, fallback=request.caption)
    folders = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if folders:
        listing.remarks.append(f"{name_list(folders)}: folders in the folder are left out.")
    return listing


def training_images(folder: Path) -> list[Path]:
    """The images directly in a folder, without the masks of others."""
    return [path for path in pictures_in(folder) if not is_mask_name(path)]


def gather(
    listing: Listing,
    folder: Path,
    *,
    root: Path,
    request: DataRequest,
    fallback: str,
    repeats: int = 1,
) -> None:
    """Add the images of one folder to what was found in `root`."""
    pictures, captions = training_images(folder), captions_in(folder)
    taken: dict[str, Path] = {}
    for image in pictures:
        try:
            own = first_caption(captions.get(image.stem, ()), root)
            record = _record(image, own, root, request, fallback=fallback, repeats=repeats)
            _check_alone(image, taken.setdefault(image.stem, image), record, root)
        except FileError as problem:
            listing.problems.append(problem)
        else:
            listing.records.append(record)
    listing.problems.extend(
        FileError(link.relative_to(root).as_posix(), "it is a link that leads nowhere", "Remove it")
        for link in sorted(filter(is_picture_name, folder.iterdir()))
        if link.is_symlink() and not link.exists()
    )
    listing.remarks.extend(_left_out(folder, pictures))


def name_list(names: Sequence[str], *, most: int = 4) -> str:
    """The first of some file names, and how many more there are."""
    first = ", ".join(f"`{printable(name)}`" for name in names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def _record(
    image: Path, caption: str, root: Path, request: DataRequest, *, fallback: str, repeats: int
) -> Record:
    name = image.relative_to(root).as_posix()
    return Record(
        name=name,
        image=inside(root, name),
        caption=caption or fallback,
        has_own_caption=bool(caption),
        mask=mask_of(image, root, request.mask_dir),
        repeats=repeats,
    )


def _check_alone(image: Path, first: Path, record: Record, root: Path) -> None:
    """Refuse a caption or a mask that would belong to two images.

    Raises:
        FileError: naming both images.
    """
    if image == first or not (record.has_own_caption or record.mask):
        return
    reason = f"it has the same caption or mask file as `{first.name}`"
    raise FileError(image.relative_to(root).as_posix(), reason, "Rename one of the two")


def _left_out(folder: Path, pictures: Iterable[Path]) -> list[str]:
    """Remarks on files that are neither images nor belong to one."""
    stems = {image.stem for image in pictures}
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    captions = [p.name for p in files if is_caption_name(p) and p.stem not in stems]
    masks = [
        p.name for p in files if is_mask_name(p) and p.stem.removesuffix("-masklabel") not in stems
    ]
    read = set(pictures_in(folder))
    others = [
        p.name for p in files if not (p in read or is_caption_name(p) or p.suffix.lower() in SILENT)
    ]
    remarks = []
    if captions or masks:
        remarks.append(
            f"{name_list([*captions, *masks])}: no image here has this name before the dot."
        )
    if others:
        remarks.append(f"{name_list(others)}: not a kind of image that is read, left out.")
    return remarks

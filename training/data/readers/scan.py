"""One folder listed once: which files are images, captions, masks, and which are none of these."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from orthodiff.io.images import MASK_LABEL, SUFFIXES, is_image_name, is_mask_name

from .files import caption_rank, is_caption_name

ENDINGS = tuple(case for s in (".png", *sorted(SUFFIXES)) for case in (s, s.upper()))
"""Of a mask, in the order in which they are looked for."""


@dataclass(frozen=True)
class FolderScan:
    """The names in one folder, sorted; hidden ones are not among them.

    `captions` has the caption files of each stem, the first to be read first; `masks` the mask of
    each image's stem (`<stem>-masklabel.png`); `links` are the images that are links, `broken` the
    links that lead nowhere.
    """

    folder: Path
    images: list[str] = field(default_factory=list)
    captions: dict[str, list[str]] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


def scan_folder(folder: Path) -> FolderScan:
    """List `folder`: a million files need one listing, and no further question to the disk."""
    scan, masks, captions = FolderScan(folder), dict[str, list[str]](), dict[str, list[str]]()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name, path = entry.name, Path(entry.name)
            if name.startswith("."):
                continue
            if _leads_to(entry, is_folder=True):
                scan.folders.append(name)
            elif is_caption_name(path):
                captions.setdefault(path.stem, []).append(name)
            elif not _leads_to(entry):
                scan.broken.extend([name] if is_image_name(path) else [])
            elif is_mask_name(path):
                masks.setdefault(path.stem.removesuffix(MASK_LABEL), []).append(name)
            elif is_image_name(path):
                scan.images.append(name)
                scan.links.update([name] if entry.is_symlink() else [])
            else:
                scan.others.append(name)
    scan.captions.update({s: sorted(files, key=caption_rank) for s, files in captions.items()})
    scan.masks.update({stem: min(files, key=_mask_rank) for stem, files in masks.items()})
    return scan


def _leads_to(entry: os.DirEntry[str], *, is_folder: bool = False) -> bool:
    try:
        return entry.is_dir() if is_folder else entry.is_file()
    except OSError:  # links in a circle
        return False


def _mask_rank(name: str) -> int:
    ending = os.path.splitext(name)[1]
    return ENDINGS.index(ending) if ending in ENDINGS else len(ENDINGS)

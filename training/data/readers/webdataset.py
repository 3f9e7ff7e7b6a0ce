"""The tars of webdataset: `000001.jpg`, its caption `000001.txt` and its layers side by side.

Tars are not unpacked: an image is read at its place, in any order.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orthodiff.errors import FileError, UserError
from orthodiff.io.images import SUFFIXES

from .columns import CAPTION, CONTROL_IMAGE, MASK
from .files import MOST_LETTERS, decode_text, path_within, tidy
from .folder import name_list
from .records import DataRequest, Listing, Record

CAPTIONS = ("txt", "caption", "text")
PACKED = ("*.tar.gz", "*.tgz", "*.tar.bz2", "*.tar.xz", "*.tar.zst")


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar: reads its bytes when it is called."""

    tar: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class _Group:
    """The members of one key, by the rest of their names: `jpg`, `txt`, `mask.png`."""

    key: str
    members: dict[str, TarMember] = field(default_factory=dict)


def recognises(folder: Path) -> bool:
    """A folder with tars directly in it."""
    return any(folder.glob("*.tar")) or any(any(folder.glob(kind)) for kind in PACKED)


def read(folder: Path, request: DataRequest) -> Listing:
    """Every image of every tar, in order.

    Raises:
        UserError: a tar is compressed, so that nothing in it can be read by itself.
    """
    packed = sorted(path.name for kind in PACKED for path in folder.glob(kind))
    if packed:
        raise UserError(
            f"`{folder}` holds compressed tars ({name_list(packed)}), in which no image can be "
            "read by itself. Decompress them, for example with gunzip."
        )
    listing, unread = Listing("webdataset tars"), dict[str, None]()
    for tar in sorted(folder.glob("*.tar")):
        try:
            path_within(folder, tar.name, what="tar")
            for group in _groups(tar):
                unread.update(dict.fromkeys(_read_group(listing, tar, group, request)))
        except (tarfile.TarError, OSError) as error:
            reason = f"it is not a whole tar ({error})"
            listing.problems.append(FileError(tar.name, reason, "Make it again", what="tar"))
        except FileError as problem:
            listing.problems.append(problem)
    if unread:
        listing.remarks.append(f"{name_list(list(unread))}: files of these kinds are not read.")
    return listing


def _groups(tar: Path) -> Iterator[_Group]:
    """Members that follow each other and have the same key, as webdataset groups them."""
    group: _Group | None = None
    with tarfile.open(tar, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps all it has seen
            folder, _, name = member.name.rpartition("/")
            stem, dot, kind = name.partition(".")
            if not member.isreg() or not stem or not dot:
                continue
            key = f"{folder}/{stem}" if folder else stem
            if group is None or group.key != key:
                if group:
                    yield group
                group = _Group(key)
            group.members[kind.lower()] = TarMember(tar, member.offset_data, member.size)
    if group:
        yield group


def _read_group(listing: Listing, tar: Path, group: _Group, request: DataRequest) -> Iterator[str]:
    """Add the image of a group, if there is one; the kinds of files that are not read."""
    members, name = dict(group.members), f"{tar.name}/{group.key}"
    image = next((kind for kind in members if f".{kind}" in SUFFIXES), None)
    if image is None:
        yield from members
        return
    try:
        caption = _caption(members, name)
        record = Record(
            name=f"{name}.{image}",
            image=members.pop(image),
            caption=caption or request.caption,
            has_own_caption=bool(caption),
            mask=_layer(members, MASK.defaults),
            control_image=_layer(members, CONTROL_IMAGE.defaults),
        )
    except FileError as problem:
        listing.problems.append(problem)
    else:
        listing.records.append(record)
        yield from members


def _caption(members: dict[str, TarMember], name: str) -> str:
    """In a text file, else in one of the usual entries of a JSON file.

    Raises:
        FileError: it is no text.
    """
    texts = [members.pop(kind) for kind in CAPTIONS if kind in members]
    entries = members.pop("json", None)
    for member in texts:
        if caption := tidy(_text(member, f"{name}.txt"), name=f"{name}.txt"):
            return caption
    if entries is None:
        return ""
    where = f"{name}.json"
    try:
        row = json.loads(_text(entries, where))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(where, f"it is not JSON ({error})", "Correct it", what="entry") from error
    values = [row.get(column) for column in CAPTION.defaults] if isinstance(row, dict) else []
    return tidy(next((v for v in values if isinstance(v, str) and v), ""), name=where)


def _text(member: TarMember, name: str) -> str:
    if member.size > 64 * MOST_LETTERS:
        raise FileError(name, f"it has {member.size} bytes", "Shorten it", what="caption")
    return decode_text(member(), name=name, what="caption")


def _layer(members: dict[str, TarMember], names: tuple[str, ...]) -> TarMember | None:
    """A layer such as `000001.mask.png`."""
    for kind in list(members):
        name, dot, suffix = kind.rpartition(".")
        if dot and name in names and f".{suffix}" in SUFFIXES:
            return members.pop(kind)
    return None

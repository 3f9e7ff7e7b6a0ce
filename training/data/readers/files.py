"""Files beside images, and the border of a folder that nothing may lead out of."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

from orthodiff.errors import FileError

CAPTION_SUFFIXES = (".txt", ".caption")
MOST_LETTERS = 10_000
"""Of a caption; models read some seventy words."""


def path_within(
    folder: Path, name: str | Path, *, what: str = "image", is_folder: bool = False
) -> Path:
    """The file (or folder) `name` of `folder`.

    Raises:
        FileError: it leads out of the folder (`..`, an absolute path, a link), or is not there.
    """
    try:
        path = folder / name
        real, roots = path.resolve(), _roots(folder.resolve())
        is_there = real.is_dir() if is_folder else real.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(str(name), f"its path is not one ({error})", what=what) from error
    if not any(real.is_relative_to(root) for root in roots):
        remedy = f"Copy the file into `{folder.name}`, or remove the entry"
        raise FileError(str(name), "it leads out of its folder", remedy, what=what)
    if not is_there:
        raise FileError(str(name), "there is no such file", "Check the name", what=what)
    return path


def _roots(folder: Path) -> list[Path]:
    """The folder itself; in the hub's cache also the blobs that its snapshots link to."""
    snapshots = [parent for parent in folder.parents if parent.name == "snapshots"]
    return [folder, *(parent.parent / "blobs" for parent in snapshots[:1])]


def is_caption_name(path: Path) -> bool:
    """Whether a file is called like a caption, in small letters or capitals."""
    return path.suffix.lower() in CAPTION_SUFFIXES


def caption_rank(name: str) -> tuple[int, str]:
    """The order in which caption files are read: `.txt` first, small letters before capitals."""
    suffix = Path(name).suffix
    return CAPTION_SUFFIXES.index(suffix.lower()), suffix.swapcase()


def first_caption(files: Iterable[Path], root: Path) -> str:
    """The caption in the first of some text files that is not empty, on one line; perhaps none.

    Raises:
        FileError: one cannot be read as a caption.
    """
    for path in files:
        name = path.relative_to(root).as_posix()
        if caption := read_caption(path_within(root, name, what="caption"), name=name):
            return caption
    return ""


def read_caption(path: Path, *, name: str) -> str:
    """The text of a caption file on one line, perhaps empty.

    Raises:
        FileError: it is huge, not text, or in an encoding that is not known.
    """
    try:
        with path.open("rb") as file:
            content = file.read(4 * MOST_LETTERS + 1)
    except OSError as error:
        raise FileError(name, error.strerror or str(error), what="caption") from error
    if len(content) > 4 * MOST_LETTERS:
        raise _too_long(name)
    return tidy(decode_text(content, name=name, what="caption"), name=name)


def tidy(caption: str, *, name: str) -> str:
    """A caption on one line.

    Raises:
        FileError: it is huge.
    """
    line = " ".join(caption.split())
    if len(line) > MOST_LETTERS:
        raise _too_long(name)
    return line


def decode_text(content: bytes, *, name: str, what: str) -> str:
    """Text out of UTF-8, or out of UTF-16 that says so in its first bytes.

    Raises:
        FileError: it is in neither.
    """
    deep = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if deep else "utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"its letters are not in UTF-8 (byte {error.start})"
        raise FileError(name, reason, "Save it as UTF-8", what=what) from error
    if "\0" in text:
        raise FileError(name, "it is not text", "Replace or remove it", what=what)
    return text


def _too_long(name: str) -> FileError:
    reason = f"it has more than {MOST_LETTERS} letters"
    return FileError(name, reason, "Say it in a sentence or two", what="caption")

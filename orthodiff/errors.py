"""The one error a user is meant to read."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from safetensors import SafetensorError


class UserError(ValueError):
    """A request that cannot be carried out, told in one sentence: what, why, and what to do.

    Command lines print it and exit with code 2; the studio shows it next to the form.
    """


class FileError(UserError):
    """One file that cannot be used: which, why, and what to do."""

    def __init__(
        self,
        name: str,
        reason: str,
        remedy: str = "Replace or remove this file",
        *,
        what: str = "image",
    ) -> None:
        self.name, self.reason, self.remedy = printable(name), printable(reason), remedy
        super().__init__(f"The {what} `{self.name}` cannot be used: {self.reason}. {remedy}.")


def printable(text: object) -> str:
    """One line of what others wrote, fit for a terminal: no control characters, no broken ones."""
    words = " ".join(str(text).split())
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words
    )


def is_unicode(text: str) -> bool:
    """Whether a name or a word of the command line is text, and no bytes of another encoding."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


UNUSABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
"""What the libraries raise for a model folder with missing, damaged or foreign files."""


def first_line(error: BaseException) -> str:
    """What a library's error says first, without its full stop."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """` Did you mean ...?`, or the list of what there is when it is short, or where to look."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean `{prefix}{close[0]}`?"
    if len(names) <= 12:
        return f" Known are {', '.join(names)}."
    return " See --help for all of them."


def explain_os_error(error: OSError) -> str | None:
    """An error of the system as a sentence with a remedy; None if it is about no file or disk."""
    place = f"`{printable(error.filename)}`" if error.filename else "The file"
    for numbers, reason, remedy in _OS_ERRORS:
        if error.errno in numbers:
            return f"{place} cannot be used: {reason}. {remedy}."
    if error.filename and error.strerror:
        return f"{place} cannot be used: {first_line(OSError(error.strerror))}. Check the path."
    return None


_OS_ERRORS = (
    ((errno.ENOSPC,), "the disk is full", "Free some space, or choose another disk"),
    ((errno.EDQUOT,), "your disk quota is used up", "Free some space, or choose another disk"),
    ((errno.EACCES, errno.EPERM), "permission is denied", "Change its permissions, or the path"),
    ((errno.EROFS,), "it lies on a read-only file system", "Choose another place"),
    ((errno.ENAMETOOLONG,), "its name is too long", "Choose a shorter one"),
    ((errno.ENOENT,), "it does not exist", "Check the path"),
    ((errno.ENOTDIR,), "a part of its path is a file, not a folder", "Check the path"),
    ((errno.EISDIR,), "it is a folder, not a file", "Check the path"),
    ((errno.EIO,), "the disk cannot read or write it", "Check the disk, or choose another"),
)

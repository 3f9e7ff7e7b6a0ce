"""Safetensors files in: every reader of weights goes through here, with one set of errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from orthodiff.errors import UserError

Metadata = dict[str, str]
Shapes = dict[str, tuple[int, ...]]


def read_tensors(
    path: Path, names: Collection[str] | None = None, *, remedy: str = "Save it again"
) -> tuple[dict[str, Tensor], Metadata]:
    """The tensors of a file (all, or those of `names`) on the CPU, and its metadata.

    Raises:
        UserError: it is missing, truncated or no safetensors file.
    """
    with _opened(path, remedy) as file:
        keys = file.keys() if names is None else names
        return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})


def read_shapes(path: Path, *, remedy: str = "Save it again") -> tuple[Shapes, Metadata]:
    """The shapes of a file's tensors, and its metadata; no tensor is read.

    Raises:
        UserError: it is missing, truncated or no safetensors file.
    """
    with _opened(path, remedy) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        return shapes, dict(file.metadata() or {})


def read_metadata(path: Path, *, remedy: str = "Save it again") -> Metadata:
    """The metadata in a file's header.

    Raises:
        UserError: it is missing, truncated or no safetensors file.
    """
    return read_tensors(path, (), remedy=remedy)[1]


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Any]:
    try:
        with _in_utf8(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {remedy}.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read. Change its permissions.") from None
    except (SafetensorError, OSError):
        raise UserError(f"{path} is truncated or not safetensors. {remedy}.") from None


def _is_utf8(path: Path) -> bool:
    """Whether a path's name can be written in UTF-8: Linux allows any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _in_utf8(path: Path) -> Iterator[Path]:
    """A name of the file in UTF-8, a link where its own is not: safetensors opens no other."""
    if _is_utf8(path):
        yield path
        return
    with TemporaryDirectory(prefix="orthodiff-") as folder:
        link = Path(folder) / "file.safetensors"
        link.symlink_to(path.absolute())
        yield link

"""Safetensors files in: every reader of weights goes through here, with one set of errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
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
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {remedy}.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read. Change its permissions.") from None
    except (SafetensorError, OSError):
        raise UserError(f"{path} is truncated or not safetensors. {remedy}.") from None

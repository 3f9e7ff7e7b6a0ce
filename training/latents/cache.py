"""Tensors kept on disk under the hash of what they were made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.io.atomic import can_be_written, share_file
from orthodiff.io.safetensors import read_tensors

_SUM = "sha256"


class Cache:
    """Named tensors by key in a folder; with no folder nothing is kept.

    Files are written aside and renamed, so that several runs may share a folder. One that does not
    match its own sum any more (or is no tensor file at all) is made again.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors kept under `key`, else `make()`, kept from now on; on the CPU."""
        path = self.folder / f"{key}.safetensors" if self.folder else None
        kept = _read(path) if path else None
        if kept is not None:
            return kept
        made = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        if path:
            _write(path, made)
        return made


def check_cache(folder: Path) -> None:
    """Refuse early a folder that could not be written or made; nothing is written.

    Raises:
        UserError: naming it.
    """
    if not can_be_written(folder):
        raise UserError(
            f"The cache folder `{folder}` cannot be written. Choose another --cache_dir."
        )


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/orthodiff`, usually `~/.cache/orthodiff`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "orthodiff"


def _read(path: Path) -> dict[str, Tensor] | None:
    """None where there is no whole, unchanged file."""
    try:
        tensors, metadata = read_tensors(path)
    except UserError:
        return None
    return tensors if metadata.get(_SUM) == _sum(tensors) else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """No need to force it to the disk: the sum tells what a power cut left half-written."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    share_file(path, save(tensors, metadata={_SUM: _sum(tensors)}))


def _sum(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

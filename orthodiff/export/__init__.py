"""Turn an adapter folder into what other tools read; one file per target format."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from orthodiff.adapters.checks import require_positive
from orthodiff.checkpoint import load, read_config, read_metadata
from orthodiff.errors import UserError
from orthodiff.export.change import Contents, Request
from orthodiff.export.diff import diff
from orthodiff.export.kohya import kohya
from orthodiff.export.lora import lora
from orthodiff.export.merged import write_pipeline
from orthodiff.export.single import single
from orthodiff.families import Base, load_base
from orthodiff.inject import Adapter

__all__ = ["FILES", "FORMATS", "Exported", "export"]

FILES: dict[str, Callable[[Request], Contents]] = {
    "lora": lora,
    "kohya": kohya,
    "diff": diff,
    "single": single,
}
"""The formats that are one file."""

FORMATS = (*FILES, "merged")
"""Every format; "merged" is a pipeline folder."""


@dataclass(frozen=True)
class Exported:
    """What was written: for a LoRA the rank of every layer, and its relative `errors`.

    An error is the norm of what a layer's change lacks, relative to the norm of the change.
    """

    path: Path
    ranks: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return one sentence for people."""
        if not any(self.errors.values()):
            return f"{self.path} written, exact to rounding."
        worst = max(self.errors, key=lambda name: self.errors[name])
        return (
            f"{self.path} written with ranks {min(self.ranks.values())} to "
            f"{max(self.ranks.values())}. The largest relative error of a weight's change is "
            f"{self.errors[worst]:.2g}, in {worst}."
        )


def export(
    folder: str | Path,
    out: str | Path,
    *,
    format: str = "lora",
    base: str | Path | nn.Module | None = None,
    strength: float = 1.0,
    tolerance: float = 0.01,
    max_rank: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Exported:
    """Write the adapter in `folder` to `out` in one of `FORMATS`, at a given strength.

    "lora" is for diffusers' `load_lora_weights`; "kohya" for A1111, ComfyUI and InvokeAI; "diff"
    holds full weight differences for ComfyUI; "single" and "merged" are the whole model with the
    adapter in its weights, as one file (Stable Diffusion 1.x) or as a new pipeline folder.

    As a LoRA, HRA and LoRA keep their rank and are exact. OFT and BOFT get the smallest rank whose
    error, relative to a layer's change, is at most `tolerance`, and at most `max_rank`.

    The change depends on the base model's weights. `base` is its folder or hub id, by default that
    of the recipe; for a change alone it may also be the model that was adapted, in memory.

    Raises:
        UserError: for an unknown format or setting, or an adapter or base that does not fit.
    """
    _check(format, Path(out), tolerance=tolerance, max_rank=max_rank)
    opened = base if isinstance(base, nn.Module) else _open_base(folder, base)
    whole = opened if isinstance(opened, Base) else None
    part, adapter = _attach(opened, folder)
    request = Request(adapter, part, whole, read_metadata(folder), tolerance, max_rank)
    try:
        adapter.strength = strength
        with _appearing(Path(out)) as scratch:
            if format == "merged":
                write_pipeline(request, scratch, dtype=dtype)
                return Exported(Path(out))
            return _write(FILES[format](request), scratch, Path(out), dtype)
    finally:
        adapter.detach()


def _check(format: str, out: Path, *, tolerance: float, max_rank: int | None) -> None:
    if format not in FORMATS:
        raise UserError(f"`format` is {format!r}, but it must be one of {', '.join(FORMATS)}.")
    if not 0 <= tolerance < 1:
        raise UserError(f"`tolerance` is {tolerance}, but it must be from 0 to below 1. Use 0.01.")
    if max_rank is not None:
        require_positive("max_rank", max_rank, example=64)
    if format == "merged" and out.exists():
        raise UserError(f"{out} exists already. Choose the name of a new folder.")
    if format in FILES and (out.suffix != ".safetensors" or out.is_dir()):
        raise UserError(f"{out} must be a file's name that ends in .safetensors. Change `out`.")


def _open_base(folder: str | Path, base: str | Path | None) -> Base:
    told = read_config(folder).get("base_model_name_or_path")
    if not (base or told):
        raise UserError(
            "The adapter does not say its base model, whose weights are needed. Name it as `base`."
        )
    return load_base(str(base or told))


def _attach(base: Base | nn.Module, folder: str | Path) -> tuple[str, Adapter]:
    """Attach the adapter to the part of the base that it fits.

    Raises:
        UserError: if it fits neither, saying why not the UNet.
    """
    if isinstance(base, Base):
        try:
            return "unet", load(base.unet, folder)
        except UserError as error:
            try:
                return "text_encoder", load(base.text_encoder, folder)
            except UserError:
                raise error from None
    part = "unet" if hasattr(base, "down_blocks") else "text_encoder"
    return part, load(base, folder)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Lend a scratch path next to `out`, and move it there in one step once all is written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        path = Path(scratch) / out.name
        yield path
        os.replace(path, out)


def _write(contents: Contents, scratch: Path, out: Path, dtype: torch.dtype) -> Exported:
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in contents.tensors.items()}
    save_file(tensors, scratch, metadata={"format": "pt", **contents.header})
    ranks = {name: change.rank for name, change in contents.changes.items()}
    return Exported(out, ranks, {name: change.error for name, change in contents.changes.items()})

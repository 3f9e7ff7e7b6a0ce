"""Turn an adapter folder into what other tools read; one file per target format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.checks import require_positive
from orthodiff.adapters.peft_format.method_format import WEIGHTS
from orthodiff.adapters.peft_format.read import read_adapter_metadata
from orthodiff.components.registry import COMPONENTS, components_in
from orthodiff.components.textual_inversion import FILE as WORDS
from orthodiff.control.adapter import WEIGHTS as HINTS
from orthodiff.errors import UserError
from orthodiff.export.attach_base import (
    attach_to_base,
    attach_to_model,
    home,
    open_base,
)
from orthodiff.export.diff import diff
from orthodiff.export.kohya import kohya
from orthodiff.export.lora import lora
from orthodiff.export.merged import write_pipeline
from orthodiff.export.single import single
from orthodiff.export.weight_delta import (
    Contents,
    LowRank,
    Request,
    whole_base,
)
from orthodiff.io.atomic import appearing
from orthodiff.io.modelspec import seal_header
from orthodiff.models import Base

__all__ = ["FILES", "FORMATS", "Exported", "export"]

FILES: dict[str, Callable[[Request], Contents]] = {
    "lora": lora,
    "kohya": kohya,
    "diff": diff,
    "single": single,
}
"""The formats that are one file."""

SAVED = (WEIGHTS, HINTS, WORDS)
"""The files of an adapter's folder that no export may replace."""

FORMATS = (*FILES, "merged")
"""Every format; "merged" is a pipeline folder."""


@dataclass(frozen=True)
class Exported:
    """What was written: for a LoRA the rank of every `part.layer`, and its relative `errors`.

    An error is the norm of what a layer's change lacks, relative to the norm of the change.
    `left_out` names the parts of the adapter that the format cannot hold. `is_other_base`: it was
    made with another base than the adapter was trained on.
    """

    path: Path
    ranks: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    is_other_base: bool = False

    def __str__(self) -> str:
        """Return a sentence or two for people."""
        left = f" Without the {' and '.join(self.left_out)}." if self.left_out else ""
        if self.is_other_base:
            left += " This base is not the one that the adapter was trained on."
        if not any(self.errors.values()):
            return f"{self.path} written, exact to rounding.{left}"
        worst = max(self.errors, key=lambda name: self.errors[name])
        return (
            f"{self.path} written with ranks {min(self.ranks.values())} to "
            f"{max(self.ranks.values())}. The largest relative error of a weight's change is "
            f"{self.errors[worst]:.2g}, in {worst}.{left}"
        )

    def layers(self) -> list[str]:
        """Return a line for every layer that is not exact: its error, its rank and its name."""
        return [
            f"{error:.2e}  rank {self.ranks[name]:<4}  {name}"
            for name, error in self.errors.items()
            if error
        ]


def export(
    folder: str | Path,
    out: str | Path,
    *,
    format: str = "lora",
    base: str | Path | nn.Module | None = None,
    revision: str | None = None,
    variant: str | None = None,
    strength: float = 1.0,
    tolerance: float = 0.01,
    max_rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> Exported:
    """Write the adapters in `folder` to `out` in one of `FORMATS`, at a given strength.

    "lora" is for diffusers' `load_lora_weights`; "kohya" for A1111, ComfyUI and InvokeAI; "diff"
    holds full weight differences for ComfyUI; "single" and "merged" are the whole model with the
    adapters in its weights, as one file or as a new pipeline folder.

    As a LoRA, HRA and LoRA keep their rank and are exact. OFT and BOFT get the smallest rank whose
    error, relative to a layer's change, is at most `tolerance`, and at most `max_rank`.

    The change depends on the base model's weights. `base` is its folder or hub id, by default that
    of the recipe (`revision` and `variant` as on the hub); for a change alone it may also be the
    model that was adapted, in memory.

    Raises:
        UserError: for an unknown format or setting, an adapter or base that does not fit, or if
            `out` exists and is not to be overwritten. Nothing is written then.
    """
    folder, out = Path(folder), Path(out)
    _check(format, out, tolerance=tolerance, max_rank=max_rank, overwrite=overwrite)
    _keep_adapter(folder, out)
    if isinstance(base, nn.Module):
        whole, adapters = None, attach_to_model(base, folder)
    else:
        whole = open_base(folder, base, revision=revision, variant=variant)
        adapters = attach_to_base(whole, folder)
    request = Request(adapters, whole, _recipe(folder, out, whole), tolerance, max_rank)
    try:
        for adapter in adapters.values():
            adapter.strength = strength
        changes = _export(format, request, out, dtype)
    finally:
        for adapter in adapters.values():
            adapter.detach()
    ranks = {name: change.rank for name, change in changes.items()}
    errors = {name: change.error for name, change in changes.items()}
    is_other = whole is not None and _is_other(folder, whole)
    return Exported(out, ranks, errors, _left_out(folder, adapters), is_other)


def _is_other(folder: Path, base: Base) -> bool:
    """Whether the adapter says that it was trained on another base."""
    trained_on = read_adapter_metadata(home(folder)).get("base_sha256")
    return trained_on is not None and trained_on != base.fingerprint()


def _export(format: str, request: Request, out: Path, dtype: torch.dtype) -> Mapping[str, LowRank]:
    """Write the file or folder; the changes of a LoRA by layer."""
    if request.base is not None:
        _keep_base(request.base, format, out)
    if format == "merged":
        whole_base(request)
        with appearing(out) as scratch:
            write_pipeline(request, scratch, dtype=dtype)
        return {}
    contents = FILES[format](request)
    with appearing(out) as scratch:
        _write(contents, scratch, dtype=dtype)
    return contents.changes


def _left_out(folder: Path, adapters: Mapping[str, Adapter]) -> tuple[str, ...]:
    """Return the parts in `folder`, for people, that were not exported."""
    exported = adapters.keys() if len(components_in(folder)) > 1 else {*adapters, "unet"}
    return tuple(part.replace("_", " ") for part in components_in(folder) if part not in exported)


def _check(
    format: str, out: Path, *, tolerance: float, max_rank: int | None, overwrite: bool
) -> None:
    if format not in FORMATS:
        raise UserError(f"`format` is {format!r}, but it must be one of {', '.join(FORMATS)}.")
    if not 0 <= tolerance < 1:
        raise UserError(f"`tolerance` is {tolerance}, but it must be from 0 to below 1. Use 0.01.")
    if max_rank is not None:
        require_positive("max_rank", max_rank, example=64)
    if format in FILES and (out.suffix != ".safetensors" or out.is_dir()):
        raise UserError(f"{out} must be a file's name that ends in .safetensors. Change `out`.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already. Choose a new name, or ask to `overwrite` it.")
    if format == "merged" and out.exists() and not (out / "model_index.json").is_file():
        raise UserError(f"{out} is no pipeline folder, so it is not replaced. Choose a new name.")


def _keep_adapter(folder: Path, out: Path) -> None:
    places = [COMPONENTS[part].place(folder).resolve() for part in components_in(folder)]
    saved = {*places, *(place / name for place in places for name in SAVED)}
    if out.resolve() in saved:
        raise UserError(f"{out} is the adapter itself. Choose a new name.")


def _keep_base(base: Base, format: str, out: Path) -> None:
    if out.exists() and out.resolve().is_relative_to(base.folder.resolve()):
        raise UserError(f"{out} is the base model itself or in it. Choose a new name.")
    if format == "merged" and base.folder.is_file():
        raise UserError(
            f"{base.folder} is a single file, so there is no folder to merge into. Use format "
            "`single`, or --single_file."
        )


def _recipe(folder: Path, out: Path, base: Base | None) -> dict[str, str]:
    """Return what headers tell: the adapter's recipe, when it was made, and of which base."""
    made = datetime.fromtimestamp((home(folder) / WEIGHTS).stat().st_mtime, timezone.utc)
    known = {"date": made.isoformat(timespec="seconds"), "output_name": out.stem}
    if base is not None:
        known["prediction_type"] = base.scheduler.config.get("prediction_type", "epsilon")
    return known | read_adapter_metadata(home(folder))


def _write(contents: Contents, path: Path, *, dtype: torch.dtype) -> None:
    """Write numbers in `dtype`; whole numbers stay as they are."""
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in contents.tensors.items()
    }
    save_file(tensors, path, metadata={"format": "pt", **contents.header, **_errors(contents)})
    seal_header(path)


def _errors(contents: Contents) -> dict[str, str]:
    """Return the relative errors by layer for the header, unless all is exact."""
    errors = {name: float(f"{c.error:.3g}") for name, c in contents.changes.items() if c.error}
    return {"orthodiff.relative_errors": json.dumps(errors)} if errors else {}

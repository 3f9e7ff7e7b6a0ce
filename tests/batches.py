"""Helpers for tests of batches: adapters, and what lies in an output folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

Call = Callable[..., tuple[int, str]]


def make_adapters(base_folder: Path, root: Path, *, count: int = 3) -> list[Path]:
    """Adapters with noise for parameters, as trained ones lie on disk."""
    import orthodiff
    from orthodiff.components.adapter_set import AdapterSet
    from orthodiff.models import load_base

    base = load_base(str(base_folder))
    for seed in range(count):
        adapter = orthodiff.attach(base.denoiser, orthodiff.HRA(rank=2))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        bundle = AdapterSet(base, {"unet": adapter})
        metadata = {"instance_prompt": f"a photo of s{seed} dog"}
        bundle.save(root / f"subject-{seed}", metadata=metadata)
        bundle.detach()
    return sorted(root.iterdir())


def images(folder: Path) -> dict[str, str]:
    """The images of a folder and what is in them."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.png")
        if not path.name.startswith("contact_sheet")
    }


def records(folder: Path, kind: str = "image") -> list[dict]:
    lines = map(json.loads, (folder / "manifest.jsonl").read_text("utf-8").splitlines())
    return [line for line in lines if line["kind"] == kind]

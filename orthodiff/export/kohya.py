"""A LoRA file under kohya's names, as A1111, ComfyUI and InvokeAI read it; diffusers does too."""

from __future__ import annotations

import torch

from orthodiff.export.change import Contents, Request, low_rank_changes
from orthodiff.modelspec import kohya_header, modelspec

PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te"}


def kohya_name(layer: str, *, part: str) -> str:
    """Return kohya's name of a layer of "unet" or "text_encoder"."""
    if part == "text_encoder" and not layer.startswith("text_model."):
        layer = f"text_model.{layer}"
    return f"{PREFIXES[part]}_{layer.replace('.', '_')}"


def kohya(request: Request) -> Contents:
    """Return A and B by kohya's names.

    Readers multiply by alpha / rank. All layers have one alpha, the largest rank, because diffusers
    mixes up several; where a rank is smaller, B makes up for it.
    """
    changes = low_rank_changes(request)
    alpha = max(change.rank for change in changes.values())
    tensors = {}
    for layer, change in changes.items():
        name = kohya_name(layer, part=request.part)
        tensors[f"{name}.lora_down.weight"] = change.down
        tensors[f"{name}.lora_up.weight"] = change.up * (change.rank / alpha)
        tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    model = request.adapter.model
    header = modelspec(model, "lora", request.recipe) | kohya_header(model, alpha, request.recipe)
    return Contents(tensors, header, changes)

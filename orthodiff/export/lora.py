"""A LoRA file as diffusers saves it: `pipe.load_lora_weights` reads it at scale 1."""

from __future__ import annotations

from orthodiff.export.weight_delta import Contents, Request, low_rank_changes
from orthodiff.io.modelspec import modelspec
from orthodiff.models.ldm_names import text_name


def lora(request: Request) -> Contents:
    """Return A and B by diffusers' names, all of one rank, so that no scale has to be kept."""
    changes = low_rank_changes(request)
    rank = max(change.rank for change in changes.values())
    tensors = {}
    for key, change in changes.items():
        part, _, layer = key.partition(".")
        name = f"{part}.{layer if part == 'unet' else text_name(layer)}"
        tensors[f"{name}.lora_A.weight"] = change.padded(rank).down
        tensors[f"{name}.lora_B.weight"] = change.padded(rank).up
    return Contents(tensors, modelspec(request.model, "lora", request.recipe), changes)

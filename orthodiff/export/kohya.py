"""A LoRA file under kohya's names, as A1111, ComfyUI and InvokeAI read it; diffusers does too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from orthodiff.export.weight_delta import Contents, Request, low_rank_changes
from orthodiff.io.modelspec import (
    DIFFUSERS,
    ORIGINAL,
    kohya_header,
    modelspec,
)
from orthodiff.models.ldm_names import text_name, unet_name, unet_names

PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


def kohya_names(unet: Any) -> Callable[[str], str]:
    """Return what gives kohya's name of a `part.layer` of the base model with this UNet.

    Layers of Stable Diffusion XL's UNet go by the original code's names.
    """
    xl = is_xl(unet)
    blocks = unet_names(unet) if xl else {}
    prefixes = PREFIXES | ({"text_encoder": "lora_te1"} if xl else {})

    def name(key: str) -> str:
        part, _, layer = key.partition(".")
        if part != "unet":
            layer = text_name(layer)
        elif xl:
            layer = unet_name(f"{layer}.weight", blocks).removesuffix(".weight")
        return f"{prefixes[part]}_{layer.replace('.', '_')}"

    return name


def is_xl(unet: Any) -> bool:
    """Whether this is the UNet of a Stable Diffusion XL."""
    return getattr(getattr(unet, "config", None), "addition_embed_type", None) == "text_time"


def kohya(request: Request) -> Contents:
    """Return A and B by kohya's names.

    Readers multiply by alpha / rank. All layers have one alpha, the largest rank, because diffusers
    mixes up several; where a rank is smaller, B makes up for it.
    """
    changes, name = low_rank_changes(request), kohya_names(request.model)
    alpha = max(change.rank for change in changes.values())
    tensors = {}
    for key, change in changes.items():
        tensors[f"{name(key)}.lora_down.weight"] = change.down
        tensors[f"{name(key)}.lora_up.weight"] = change.up * (change.rank / alpha)
        tensors[f"{name(key)}.alpha"] = torch.tensor(float(alpha))
    implementation = ORIGINAL if is_xl(request.model) else DIFFUSERS
    header = modelspec(request.model, "lora", request.recipe, implementation=implementation)
    header |= kohya_header(request.model, alpha, request.recipe)
    return Contents(tensors, header, changes)

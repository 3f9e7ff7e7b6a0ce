"""A whole model in one file, under the names of the original code (LDM, later SGM)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthodiff.export.weight_delta import Contents, Request, whole_base
from orthodiff.io.modelspec import ORIGINAL, modelspec
from orthodiff.models import Base
from orthodiff.models.ldm_names import (
    clip_state,
    open_clip_state,
    unet_state,
    vae_state,
)


def single(request: Request) -> Contents:
    """Return the whole model with the adapters merged in.

    Raises:
        UserError: if only the adapted part is at hand.
    """
    base = whole_base(request)
    for adapter in request.adapters.values():
        adapter.merge()
        adapter.detach(merged=True)
    header = modelspec(base.unet, "", request.recipe, implementation=ORIGINAL)
    return Contents(whole_model(base), header)


def whole_model(base: Base) -> dict[str, Tensor]:
    """Return the weights of UNet, autoencoder and text encoders by the original code's names."""
    models = [text.model for text in base.texts]
    parts = {
        "model.diffusion_model.": unet_state(base.unet),
        "first_stage_model.": vae_state(base.vae),
        **(_alone(models[0]) if len(models) == 1 else _side_by_side(*models)),
    }
    return {
        f"{prefix}{name}": tensor.detach().contiguous()
        for prefix, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _alone(model: Any) -> dict[str, dict[str, Tensor]]:
    """Return the text encoder of Stable Diffusion 1.x, or of 2.x, whose is an OpenCLIP."""
    if model.config.hidden_act == "quick_gelu":
        return {"cond_stage_model.transformer.": clip_state(model)}
    return {"cond_stage_model.model.": open_clip_state(model)}


def _side_by_side(first: Any, second: Any) -> dict[str, dict[str, Tensor]]:
    """Return the two text encoders of Stable Diffusion XL."""
    return {
        "conditioner.embedders.0.transformer.": clip_state(first),
        "conditioner.embedders.1.model.": open_clip_state(second),
    }

"""Headers by which other tools know a file: ModelSpec 1.0.1 and, for a LoRA, kohya's `ss_` keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

ARCHITECTURES = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2-512"}
"""ModelSpec's names of the UNets, by the width of their text embeddings."""


def architecture(model: nn.Module) -> str:
    """Return ModelSpec's name of the base model, or its class name if it has none."""
    config: Any = getattr(model, "config", None)
    width = getattr(config, "cross_attention_dim", None)
    known = ARCHITECTURES.get(width) if isinstance(width, int) else None
    return known or type(model).__name__


def trigger_phrase(recipe: Mapping[str, str]) -> str:
    """Return the words that call up what was learned, or nothing if the recipe has none."""
    return recipe.get("trigger_phrase") or recipe.get("instance_prompt", "")


def modelspec(model: nn.Module, kind: str, recipe: Mapping[str, str]) -> dict[str, str]:
    """Return the `modelspec.` keys of an adapter of `kind` ("hra", "lora", ...) for `model`.

    No kind stands for a whole model.

    The date is left out, so that the same adapter gives the same file.
    """
    trigger, resolution = trigger_phrase(recipe), recipe.get("resolution")
    found = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture(model)}/{kind}".rstrip("/"),
        "implementation": "https://github.com/huggingface/diffusers",
        "title": recipe.get("title") or trigger or f"{kind or 'merged'} model",
        "trigger_phrase": trigger,
        "resolution": f"{resolution}x{resolution}" if resolution else "",
    }
    return {f"modelspec.{key}": value for key, value in found.items() if value}


def kohya_header(model: nn.Module, rank: int, recipe: Mapping[str, str]) -> dict[str, str]:
    """Return the `ss_` keys of a LoRA file; web interfaces show the trigger phrase as a tag."""
    trigger = trigger_phrase(recipe)
    found = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_base_model_version": "sd_v2" if "-v2" in architecture(model) else "sd_v1",
        "ss_sd_model_name": recipe.get("base", ""),
        "ss_new_sd_model_hash": recipe.get("base_sha256", ""),
        "ss_steps": recipe.get("steps", ""),
        "ss_learning_rate": recipe.get("learning_rate", ""),
        "ss_seed": recipe.get("seed", ""),
        "ss_tag_frequency": json.dumps({"subject": {trigger: 1}}) if trigger else "",
    }
    return {key: value for key, value in found.items() if value}

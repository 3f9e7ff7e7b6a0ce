"""Headers by which other tools know a file: ModelSpec 1.0.1 and, for a LoRA, kohya's keys."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from orthodiff.io.safetensors import read_shapes

ARCHITECTURES = {
    768: "stable-diffusion-v1",
    1024: "stable-diffusion-v2-512",
    2048: "stable-diffusion-xl-v1-base",
}
"""ModelSpec's names of the UNets, by the width of their text embeddings."""
KOHYA_BASES = {768: "sd_v1", 1024: "sd_v2", 2048: "sdxl_base_v1-0"}
"""Kohya's names of the same."""
DIFFUSERS = "https://github.com/huggingface/diffusers"
ORIGINAL = "https://github.com/Stability-AI/generative-models"
"""The code after which tensors are named."""
NO_HASH = "0" * 64
"""Stands in a header for the hash that `seal_header` will find."""


def architecture(model: nn.Module, *, prediction: str = "") -> str:
    """Return ModelSpec's name of the base model, or its class name if it has none."""
    known = ARCHITECTURES.get(_text_width(model), type(model).__name__)
    # Of the two kinds of Stable Diffusion 2, the one that predicts a velocity has larger images.
    return known.replace("-v2-512", "-v2-768-v") if prediction == "v_prediction" else known


def _text_width(model: nn.Module) -> int:
    width = getattr(getattr(model, "config", None), "cross_attention_dim", None)
    return width if isinstance(width, int) else 0


def trigger_phrase(recipe: Mapping[str, str]) -> str:
    """Return the words that call up what was learned, or nothing if the recipe has none."""
    return recipe.get("trigger_phrase") or recipe.get("instance_prompt", "")


def modelspec(
    model: nn.Module, kind: str, recipe: Mapping[str, str], *, implementation: str = DIFFUSERS
) -> dict[str, str]:
    """Return the `modelspec.` keys of a file of `kind` ("hra", "lora", ...) for `model`.

    No kind stands for a whole model. The date is the recipe's, if it has one: an adapter is saved
    without, so that the same training gives the same file. `seal_header` finds the hash. There is
    no thumbnail, as it would make a header of kilobytes one of megabytes.
    """
    trigger, resolution = trigger_phrase(recipe), recipe.get("resolution")
    prediction = recipe.get("prediction_type", "")
    entries = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture(model, prediction=prediction)}/{kind}".rstrip("/"),
        "implementation": implementation,
        "title": recipe.get("title") or trigger or f"{kind or 'merged'} model",
        "description": recipe.get("description", ""),
        "author": recipe.get("author", ""),
        "license": recipe.get("license", ""),
        "date": recipe.get("date", ""),
        "hash_sha256": f"0x{NO_HASH}",
        "trigger_phrase": trigger,
        "resolution": f"{resolution}x{resolution}" if resolution else "",
        "prediction_type": {"v_prediction": "v"}.get(prediction, prediction),
    }
    return {f"modelspec.{key}": value for key, value in entries.items() if value}


def kohya_header(model: nn.Module, rank: int, recipe: Mapping[str, str]) -> dict[str, str]:
    """Return kohya's keys of a LoRA file; web interfaces show the trigger phrase as a tag."""
    trigger, version = trigger_phrase(recipe), KOHYA_BASES.get(_text_width(model), "sd_v1")
    entries = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_output_name": recipe.get("output_name", ""),
        "ss_base_model_version": version,
        "ss_v2": str(version == "sd_v2"),
        "ss_sd_model_name": recipe.get("base", ""),
        "ss_new_sd_model_hash": recipe.get("base_sha256", ""),
        "ss_steps": recipe.get("steps", ""),
        "ss_learning_rate": recipe.get("learning_rate", ""),
        "ss_seed": recipe.get("seed", ""),
        "ss_tag_frequency": json.dumps({"subject": {trigger: 1}}) if trigger else "",
        "sshs_model_hash": NO_HASH,
    }
    return {key: value for key, value in entries.items() if value}


def describe_file(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file, and how many tensors and numbers follow it.

    Raises:
        UserError: it cannot be read.
    """
    shapes, metadata = read_shapes(path, remedy="Export it again")
    numbers = sum(map(math.prod, shapes.values()))
    return {"tensors": len(shapes), "numbers": numbers, "header": dict(sorted(metadata.items()))}


def seal_header(path: Path) -> None:
    """Write the SHA-256 of all tensors into the header of a safetensors file that leaves room.

    It covers what follows the header, as ModelSpec and kohya have it. Entries are put in order,
    where safetensors has them as chance will: the same content is the same file.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header, digest = json.loads(file.read(size)), hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
        metadata = header.pop("__metadata__")
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
        file.seek(8)
        file.write(text.replace(NO_HASH, digest.hexdigest()).encode().ljust(size))

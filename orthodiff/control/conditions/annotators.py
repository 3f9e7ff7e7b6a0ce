"""Models that compute control images, where their weights are at hand; nothing is fetched."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import torch

from orthodiff.errors import UNUSABLE, UserError, first_line
from orthodiff.io.assets import shipped


@lru_cache(maxsize=2)
def open_model(name: str | None, task: str, condition: str) -> tuple[Any, Any]:
    """Image processor and model of a local folder or cached id; `task` as in `AutoModelFor...`.

    Raises:
        UserError: `name` is None, or they are not at hand as safetensors, or of another task.
    """
    import transformers

    if name is None:
        raise UserError(
            f"A {condition} control image cannot be computed without a model. Give a ready control "
            "image, or the folder of a transformers model (--condition_model FOLDER)."
        )
    folder = str(shipped(name))
    kind = getattr(transformers, f"AutoModelFor{task}")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model, loaded = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        raise UserError(
            f"The model `{name}` is not at hand ({type(error).__name__}). Give a folder with a "
            "transformers model in safetensors and its image processor, or a ready control image."
        ) from error
    except UNUSABLE as error:
        raise UserError(_of_another_kind(name, condition, first_line(error))) from error
    if part := _untrained(model, {*loaded["missing_keys"], *loaded["mismatched_keys"]}):
        raise UserError(_of_another_kind(name, condition, f"it has no weights for its {part}"))
    return processor, model.eval()


def _untrained(model: Any, missing: set[str]) -> str | None:
    """A part without any weights: some of one may be unused, as in the first checkpoints of DPT."""
    for part, inner in model.named_children():
        names = {f"{part}.{name}" for name, _ in inner.named_parameters()}
        if names and names <= missing:
            return str(part)
    return None


def _of_another_kind(name: str, condition: str, reason: str) -> str:
    return (
        f"The model `{name}` does not compute {condition} control images: {reason}. Give a model "
        "that was trained for them, or a ready control image."
    )


@lru_cache(maxsize=2)
def fingerprint(name: str, task: str, condition: str) -> str:
    """SHA-256 of what `open_model` opens: how images are prepared, settings and weights.

    Raises:
        UserError: it is not at hand.
    """
    processor, model = open_model(name, task, condition)
    digest = hashlib.sha256(processor.to_json_string().encode())
    digest.update(model.config.to_json_string().encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

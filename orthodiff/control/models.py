"""Models that compute maps, where their weights are at hand: nothing is fetched for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from orthodiff.errors import UserError


@lru_cache(maxsize=2)
def open_model(name: str | None, task: str, condition: str) -> tuple[Any, Any]:
    """Image processor and model of a local folder or cached id; `task` as in `AutoModelFor...`.

    Raises:
        UserError: `name` is None, or they are not at hand as safetensors.
    """
    import transformers

    if name is None:
        raise UserError(
            f"A {condition} map cannot be computed without a model. Give a ready map, or the "
            "folder of a transformers model (--condition_model FOLDER)."
        )
    kind = getattr(transformers, f"AutoModelFor{task}")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, local_files_only=True)
        model = kind.from_pretrained(name, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The model `{name}` is not at hand ({type(error).__name__}). Give a folder with a "
            "transformers model in safetensors and its image processor, or a ready map."
        ) from error
    return processor, model.eval()

"""An evaluation: base against adapted over many prompts, with scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..adapters import Adapters
from ..jobs.folders import PHOTOS
from ..settings.base import FieldError
from ..settings.evaluate import EvaluateSettings
from .base import Offer, Prepared, base_title
from .images import base_of
from .photos import photos_of_job, write_photos


def prepare_evaluation(offer: Offer, owner: str, settings: EvaluateSettings) -> Prepared:
    """Check everything there is to check before an evaluation is queued.

    Raises:
        UserError: no such adapter, or it has no photos to compare with.
    """
    adapters: Adapters = offer.adapters
    entry = adapters.get(owner, settings.adapter)
    base = base_of(offer.bases, entry.recipe.get("base", ""))
    if base is None:
        title = base_title(entry.recipe.get("base", "another base"))
        raise FieldError("adapter", f"It was trained on {title}, which is not offered here.")
    photos = photos_of_job(entry.folder)
    if not photos.files:
        raise FieldError("adapter", f"`{entry.name}` has no photos of its own to compare with.")
    weights = entry.weights(settings.checkpoint)

    def fill(folder: Path, place: Path) -> Sequence[str]:
        write_photos(photos, folder / PHOTOS)
        return [
            "evaluate",
            f"--pretrained_model_name_or_path={base}",
            f"--adapter={weights}",
            f"--subject={place / PHOTOS}",
            f"--num_images={settings.num_images}",
            f"--output_dir={place}",
        ]

    request = {
        **settings.model_dump(mode="json"),
        "base": base_title(base),
        "prompt": entry.recipe.get("instance_prompt", ""),
        "adapter_names": [entry.name],
    }
    return Prepared(f"{entry.name}-evaluation", request, fill)

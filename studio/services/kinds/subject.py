"""A training on a subject or a style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..jobs.folders import PHOTOS, REQUEST
from ..settings.limits import check_base
from ..settings.subject import SubjectSettings, subject_config, training_prompt
from .base import Offer, Photos, Prepared, base_title
from .photos import write_photos


def prepare_subject(offer: Offer, settings: SubjectSettings, photos: Photos) -> Prepared:
    """Check everything there is to check before a training is queued.

    Raises:
        UserError: the first setting that cannot be as it is.
    """
    base = check_base(settings.base, offer.bases)
    photos = replace(photos, controls=())
    if not settings.class_word and not settings.style and photos.class_word:
        settings = settings.model_copy(update={"class_word": photos.class_word})
    config = subject_config(settings, base=base, folder=Path("folder"))

    def fill(folder: Path, place: Path) -> Sequence[str]:
        write_photos(photos, folder / PHOTOS)
        final = subject_config(settings, base=base, folder=place)
        (folder / REQUEST).write_text(final.to_yaml(), "utf-8")
        return ["train", "dreambooth", f"--config={place / REQUEST}"]

    request = {
        **settings.model_dump(mode="json"),
        "base": base_title(base),
        "prompt": training_prompt(settings),
        "max_train_steps": config.max_train_steps,
        "learning_rate": config.learning_rate,
        "train_batch_size": config.train_batch_size,
        "photos": len(photos.files),
        "subject": photos.source,
    }
    return Prepared(f"{settings.class_word or settings.trigger}-{settings.method}", request, fill)

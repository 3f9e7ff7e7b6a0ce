"""A training on control images: edges, scribbles, segmentation, depth."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from orthodiff.control import Condition
from orthodiff.errors import UserError
from orthodiff.io.images import open_control_image, open_image

from ..jobs.folders import PHOTOS, REQUEST
from ..settings.base import FieldError
from ..settings.control import ControlSettings, check_condition, control_config
from ..settings.limits import check_base
from .base import Offer, Photos, Prepared, base_title
from .photos import write_photos

SAMPLED, SAMPLES = 2, "samples-control"
"""Photos whose control images steer the samples on the way, and the folder of these."""
LOOKED_AT, FALLBACK = 50, "a photo"


def prepare_control(offer: Offer, settings: ControlSettings, photos: Photos) -> Prepared:
    """Check everything there is to check before a training is queued.

    Raises:
        UserError: the first setting or control image that cannot be as it is.
    """
    base = check_base(settings.base, offer.bases)
    brings_all = bool(photos.controls) and all(photos.controls)
    condition = check_condition(settings.condition_type, brings_all=brings_all)
    check_controls(photos, condition)
    prompts = _prompts(settings, photos)
    config = control_config(
        settings, base=base, folder=Path("folder"),
        samples=[(prompt, Path("control.png")) for prompt in prompts],
    )  # fmt: skip

    def fill(folder: Path, place: Path) -> Sequence[str]:
        write_photos(photos, folder / PHOTOS)
        names = _write_samples(photos, condition, folder / SAMPLES) if prompts else []
        samples = [
            (prompt, place / SAMPLES / names[number % len(names)])
            for number, prompt in enumerate(prompts)
        ]
        final = control_config(settings, base=base, folder=place, samples=samples)
        (folder / REQUEST).write_text(final.to_yaml(), "utf-8")
        return ["train", "control", f"--config={place / REQUEST}"]

    request = {
        **settings.model_dump(mode="json"),
        "base": base_title(base),
        "prompt": prompts[0] if prompts else "",
        "max_train_steps": config.max_train_steps,
        "learning_rate": config.learning_rate,
        "train_batch_size": config.train_batch_size,
        "photos": len(photos.files),
        "controls": sum(map(bool, photos.controls)),
        "subject": photos.source,
    }
    return Prepared(f"{settings.condition_type}-{settings.method}", request, fill)


def check_controls(photos: Photos, condition: Condition) -> None:
    """Refuse control images that are none of their kind; the trainer looks at all of them.

    Raises:
        FieldError: naming the first photo whose control image cannot be used.
    """
    for number, control in enumerate(photos.controls[:LOOKED_AT], start=1):
        try:
            if control:
                condition.check(open_control_image(control))
        except UserError as error:
            sentence = f"The control image of photo {number} cannot be used. {error}"
            raise FieldError("subject", sentence) from error


def preview(photo: Path, control: Path | None, name: str, *, side: int) -> bytes:
    """The control image of a photo as a PNG of at most `side` pixels: its own, or a computed one.

    Raises:
        UserError: there is no such kind, or it cannot be computed here.
    """
    condition = check_condition(name, brings_all=control is not None)
    image = open_control_image(control) if control else open_image(photo)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    (image if control else condition.compute(image)).save(packed, "PNG")
    return packed.getvalue()


def _prompts(settings: ControlSettings, photos: Photos) -> list[str]:
    if settings.validation_prompts is not None:
        return [line.strip() for line in settings.validation_prompts if line.strip()]
    captions = [*photos.captions, *[""] * SAMPLED][: min(SAMPLED, len(photos.files))]
    return [caption or FALLBACK for caption in captions]


def _write_samples(photos: Photos, condition: Condition, folder: Path) -> list[str]:
    """Write the control images of the first photos; the names of their files."""
    folder.mkdir()
    controls = [*photos.controls, *[None] * len(photos.files)]
    names = []
    for number, path in enumerate(photos.files[:SAMPLED]):
        control = controls[number]
        image = open_control_image(control) if control else condition.compute(open_image(path))
        names.append(f"{number:02d}.png")
        image.save(folder / names[-1])
    return names

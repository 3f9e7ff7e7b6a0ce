"""Make an image again from what it carries, and say whether it is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from orthodiff.batch.encode import Made
from orthodiff.batch.manifest import Manifest
from orthodiff.batch.plan import Item
from orthodiff.batch.rows.row import Row
from orthodiff.batch.worker import Worker
from orthodiff.errors import UserError
from orthodiff.io.png_metadata import ImageRecipe, read_recipe
from orthodiff.schedulers import SAMPLERS, sampler_title

LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Reproduction:
    """An image made again: how far its levels (of 255) are from the first, and what has changed."""

    image: Image.Image
    largest: int
    mean: float
    share: float
    changes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return self.largest == 0

    def __str__(self) -> str:
        if self.identical:
            return "identical, bit for bit"
        return (
            f"differs by at most {self.largest}/255 ({self.mean:.3f} on average), "
            f"in {self.share:.1%} of the pixels"
        )


@dataclass(frozen=True)
class ImageSource:
    """What is known of an image: its recipe, and the row and base of the manifest beside it."""

    path: Path
    recipe: ImageRecipe
    row: dict[str, Any]
    base: str

    def to_row(self, worker: Worker) -> Row:
        """The row to make again; the manifest knows whole paths, which images do not tell."""
        if self.row:
            return Row.model_validate(self.row)
        recipe = self.recipe
        return Row(
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            seed=recipe.seed,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            width=recipe.width,
            height=recipe.height,
            sampler=_sampler(recipe, worker),
            adapter=tuple(recipe.adapter.split(" + ")) if recipe.adapter else (),
            strength=recipe.strength,
            init_image=recipe.init_image or None,
            mask=recipe.mask or None,
            denoise=recipe.denoise,
            condition=recipe.condition or None,
            condition_from=recipe.condition_from or None,
            control_strength=recipe.control_strength,
            control_start=recipe.control_start,
            control_end=recipe.control_end,
        )


def read_source(path: Path) -> ImageSource:
    """What an image says of itself, and the manifest beside it.

    Raises:
        UserError: it is no image, or does not say how it was made.
    """
    try:
        recipe = read_recipe(path)
    except OSError as error:
        raise UserError(
            f"`{path}` cannot be read as an image ({error}). Check the path."
        ) from error
    record, base = _recorded(path)
    if recipe is None:
        raise UserError(
            f"`{path}` does not say how it was made. Only images that orthodiff wrote do, unless "
            "--no_metadata was given or another program saved them again."
        )
    return ImageSource(path, recipe, record.get("row", {}), base or recipe.base)


def _recorded(path: Path) -> tuple[dict[str, Any], str]:
    """The manifest's record of an image, and the base's name there; empty without a manifest."""
    for folder in list(path.absolute().parents)[:3]:
        manifest = Manifest(folder)
        if manifest.path.is_file():
            log = manifest.load()
            name = path.absolute().relative_to(folder).as_posix()
            for record in manifest.records(log.images):
                if record["file"] == name:
                    return record, ((log.batch or {}).get("base") or {}).get("name", "")
    return {}, ""


def reproduce(
    source: ImageSource, worker: Worker, *, adapter: tuple[str, ...] = ()
) -> Reproduction:
    """Make an image again, in its place in a batch of the same size, which rounding depends on.

    `adapter` replaces the folders that were used then.

    Raises:
        UserError: it cannot be made here.
    """
    recipe, row = source.recipe, source.to_row(worker)
    if adapter:
        row = row.model_copy(update={"adapter": adapter})
    if recipe.threads and recipe.device == "cpu":
        torch.set_num_threads(recipe.threads)
    made = worker.remake(
        Item(0, recipe.id, "", row),
        size=recipe.batch_size,
        position=recipe.batch_position,
        merge=recipe.merged,
    )
    with Image.open(source.path) as first:
        before = np.asarray(first.convert("RGB"), dtype=np.int16)
    after = np.asarray(made.image, dtype=np.int16)
    if before.shape != after.shape:
        raise UserError(
            f"`{source.path}` has {before.shape[1]} x {before.shape[0]} pixels, but was made with "
            f"{after.shape[1]} x {after.shape[0]}. It was changed since."
        )
    distance = np.abs(before - after)
    return Reproduction(
        made.image,
        int(distance.max()),
        float(distance.mean()),
        float(distance.any(axis=-1).mean()),
        _changes(source, made),
    )


def _changes(source: ImageSource, made: Made) -> tuple[str, ...]:
    """What is not as it was, of all that images depend on."""
    before, after = source.recipe, made.recipe
    names = ("base_sha256", "adapter_sha256", "dtype", "device", "threads", "method", "merged")
    changes = [
        f"{name}: {_brief(getattr(before, name))} then, {_brief(getattr(after, name))} now"
        for name in names
        if getattr(before, name) and getattr(before, name) != getattr(after, name)
    ]
    for name, version in before.versions.items():
        if after.versions.get(name) != version:
            changes.append(f"{name}: {version} then, {after.versions.get(name)} now")
    if source.path.suffix.lower() in LOSSY:
        changes.append("JPEG does not keep every level")
    return tuple(changes)


def _brief(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 40 else str(value)


def _sampler(recipe: ImageRecipe, worker: Worker) -> str | None:
    """The name of the sampler; None for the base's own."""
    own = worker.base.scheduler
    if not recipe.sampler or recipe.sampler == sampler_title(None, own):
        return None
    titles = {sampler.title: name for name, sampler in SAMPLERS.items()}
    if recipe.sampler not in titles:
        raise UserError(f"The image was made with the sampler {recipe.sampler}, unknown here.")
    return titles[recipe.sampler]

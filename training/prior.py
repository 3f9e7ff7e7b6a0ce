"""Class pictures for prior preservation (Ruiz et al., 2208.12242): given, or made once and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from orthodiff.errors import UserError
from orthodiff.families import Base
from orthodiff.generate import GenerateRequest, generate
from orthodiff.pictures import open_picture, pictures_in
from training.cache import default_cache
from training.data.example import Example
from training.dataset import load_examples

if TYPE_CHECKING:
    from training.tasks.dreambooth import DreamBoothConfig


def class_examples(config: DreamBoothConfig, base: Base, *, resolution: int) -> list[Example]:
    """The class pictures as examples; the base must not be adapted yet when some must be made."""
    caption = config.class_prompt or ""
    folder = config.class_data_dir or _kept_at(config, base, resolution)
    _fill(folder, base, config, resolution)
    examples = load_examples(folder, caption, is_prior=True)
    return examples[: config.num_class_images]


def check_class_folder(config: DreamBoothConfig) -> None:
    """Refuse class pictures that could not be used; they may still be missing.

    Raises:
        UserError: the folder is a file, or holds a picture that cannot be read (named).
    """
    folder = config.class_data_dir
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"`class_data_dir` is `{folder}`, which is a file. Give a folder.")
    for path in pictures_in(folder):
        open_picture(path)


def _fill(folder: Path, base: Base, config: DreamBoothConfig, resolution: int) -> None:
    """Make the missing pictures with the base; picture `i` has seed `config.seed + i`."""
    folder.mkdir(parents=True, exist_ok=True)
    present = len(pictures_in(folder))
    for start in range(present, config.num_class_images, config.sample_batch_size):
        count = min(config.sample_batch_size, config.num_class_images - start)
        request = GenerateRequest.repeat(
            config.class_prompt or "",
            num_images=count,
            seed=config.seed + start,
            width=resolution,
            height=resolution,
            batch_size=count,
        )
        for number, picture in enumerate(generate(base, request), start=start):
            aside = folder / f".{number:05d}.tmp"
            picture.save(aside, format="PNG")
            aside.rename(folder / f"class-{number:05d}.png")


def _kept_at(config: DreamBoothConfig, base: Base, resolution: int) -> Path:
    what = f"{base.fingerprint('unet')}/{config.class_prompt}/{config.seed}/{resolution}"
    root = config.cache_dir or default_cache()
    return root / "class" / hashlib.sha256(what.encode()).hexdigest()[:32]

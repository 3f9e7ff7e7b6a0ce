"""Class images for prior preservation (Ruiz et al., 2208.12242): given, or made once and kept."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from orthodiff.devices import DTYPES
from orthodiff.errors import UserError
from orthodiff.io.atomic import can_be_written, share_file
from orthodiff.io.images import open_picture, pictures_in
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate

from ..data.dataset import Examples, open_record
from ..data.readers.records import DataRequest, Record
from ..events.failures import is_out_of_memory
from ..latents.cache import default_cache

if TYPE_CHECKING:
    from .dreambooth import DreamBoothConfig

PRECISIONS = {"no": None, **DTYPES}  # fmt: skip
_MADE = re.compile(r"class-\d{5}\.png")


def class_examples(config: DreamBoothConfig, base: Base, *, resolution: int) -> Examples:
    """The class images as examples; the base must not be adapted yet when some must be made.

    Given images come first; what they lack of `num_class_images` is made with the base.
    """
    folder = config.class_data_dir or _kept_at(config, base, resolution)
    folder.mkdir(parents=True, exist_ok=True)
    given, made = given_pictures(config), _own_pictures(config, folder)
    missing = [number for number, path in enumerate(made) if not _is_whole(path)]
    _make(missing, folder, base, config, resolution)
    caption = config.class_prompt or ""
    records = [Record(path.name, path, caption) for path in (*given, *made)]
    return Examples(records, DataRequest(folder=folder, caption=caption), is_prior=True)


def given_pictures(config: DreamBoothConfig) -> list[Path]:
    """The class images that the user gave, as many as are asked for."""
    folder = config.class_data_dir
    found = pictures_in(folder) if folder and folder.is_dir() else []
    return [path for path in found if not _MADE.fullmatch(path.name)][: config.num_class_images]


def _own_pictures(config: DreamBoothConfig, folder: Path) -> list[Path]:
    """The files of the images that the base makes, whether they are there or not."""
    count = config.num_class_images - len(given_pictures(config))
    return [folder / _name(number) for number in range(count)]


def check_class_folder(config: DreamBoothConfig) -> None:
    """Refuse class images that could not be used; they may still be missing.

    Raises:
        UserError: the folder is a file, holds an image that cannot be read (named), or lacks some
            and cannot be written.
    """
    folder = config.class_data_dir
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`class_data_dir` is `{folder}`, which is a file. Give a folder.")
    if folder.resolve() in {own.resolve() for own in (config.source.folder,) if own}:
        raise UserError(
            f"`class_data_dir` is `{folder}`, where the subject's images are. Give the class a "
            "folder of its own."
        )
    for path in pictures_in(folder) if folder.exists() else ():
        open_record(Record(path.name, path, ""), DataRequest(), is_prior=True)
    missing = sum(not path.exists() for path in _own_pictures(config, folder))
    if missing and not can_be_written(folder):
        raise UserError(
            f"{missing} of {config.num_class_images} class images have to be made, but "
            f"`{folder}` cannot be written. Choose another --class_data_dir, or lower "
            "--num_class_images."
        )


def _make(
    numbers: Sequence[int], folder: Path, base: Base, config: DreamBoothConfig, resolution: int
) -> None:
    """Make class images by number; number `i` has seed `config.seed + i`."""
    maker = _in_precision(base, config) if numbers else base
    for start in range(0, len(numbers), config.sample_batch_size):
        batch = numbers[start : start + config.sample_batch_size]
        request = GenerateRequest(
            prompts=(config.class_prompt or "",) * len(batch),
            seeds=tuple(config.seed + number for number in batch),
            width=resolution,
            height=resolution,
            batch_size=len(batch),
        )
        for number, picture in zip(batch, _made(maker, request), strict=True):
            _keep(picture, folder / _name(number))


def _made(base: Base, request: GenerateRequest) -> list[Image.Image]:
    """Images as asked for.

    Raises:
        UserError: memory ran out; it says what helps here.
    """
    try:
        return generate(base, request)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = (
            f"--sample_batch_size {request.batch_size // 2}"
            if request.batch_size > 1
            else "--prior_generation_precision bf16, or give the images with --class_data_dir"
        )
        raise UserError(
            f"Out of memory while making {request.batch_size} class images at once. Use {remedy}."
        ) from error


def _in_precision(base: Base, config: DreamBoothConfig) -> Base:
    """The base itself, or loaded once more in the precision asked for."""
    wanted = PRECISIONS[config.prior_generation_precision or "no"]
    if wanted in (None, base.dtype):
        return base
    return load_base(
        base.name,
        revision=config.revision,
        variant=config.variant,
        dtype=wanted,
        device=str(base.device),
    )


def _keep(picture: Image.Image, path: Path) -> None:
    """Write aside first: another run may be making the same image."""
    packed = io.BytesIO()
    picture.save(packed, format="PNG")
    share_file(path, packed.getvalue())


def _name(number: int) -> str:
    return f"class-{'no': None, **DTYPES}.png"


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        open_picture(path)
    except UserError:
        return False
    return True


def _kept_at(config: DreamBoothConfig, base: Base, resolution: int) -> Path:
    weights = [
        base.fingerprint(part)
        for part in (base.denoiser_folder, "vae", *(t.name for t in base.texts))
    ]
    precision = PRECISIONS[config.prior_generation_precision or "no"] or base.dtype
    what = "/".join(
        [
            *weights,
            config.class_prompt or "",
            f"{'no': None, **DTYPES}",
            f"{resolution}",
            f"{precision}",
        ]
    )
    root = config.cache_dir or default_cache()
    return root / "class" / hashlib.sha256(what.encode()).hexdigest()[:32]

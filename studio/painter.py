"""Makes the pictures of the second tab: the base and the adapted model, with the same seeds."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from orthodiff.commands import GenerateOptions, recipe_of
from orthodiff.errors import UserError
from orthodiff.families import Base, Recommended
from orthodiff.families.base import read_recommended
from orthodiff.generate import generate
from orthodiff.options import hush, make_folder
from orthodiff.recipe import save_png
from orthodiff.sheet import contact_sheet

MOST_PICTURES = 32
OnProgress = Callable[[float, str], None]
"""Called with the share that is done, from 0 to 1, and what is being done."""


@dataclass(frozen=True)
class Painted:
    """The files of one request; `base` is empty unless the comparison was asked for."""

    base: Sequence[Path]
    adapted: Sequence[Path]
    archive: Path
    prompts: Sequence[str]
    seeds: Sequence[int]
    seconds: float


class Painter:
    """Keeps the base model that was used last, and lets one request at a time use it."""

    def __init__(self) -> None:
        self._base: Base | None = None
        self._lock = threading.Lock()

    def paint(
        self,
        options: GenerateOptions,
        *,
        compare: bool,
        on_progress: OnProgress | None = None,
    ) -> Painted:
        """Write the pictures into `options.output_dir`, each with its recipe, and a zip of them.

        Raises:
            UserError: too many pictures, or a base or an adapter that cannot be used.
        """
        count = len(options.prompt) * options.num_images
        if count > MOST_PICTURES:
            raise UserError(
                f"{count} pictures at once are too many. Ask for at most {MOST_PICTURES}: fewer "
                "prompts, or fewer pictures of each."
            )
        tell = on_progress or (lambda share, text: None)
        with self._lock:
            try:
                compare = compare and bool(options.adapter)
                return self._paint(options, compare=compare, tell=tell)
            except BaseException:
                self._base = None
                raise

    def _paint(self, options: GenerateOptions, *, compare: bool, tell: OnProgress) -> Painted:
        begun = time.monotonic()
        tell(0.0, "Loading the base model")
        base = self._open(options)
        plain = options.model_copy(update={"adapter": (), "strength": 1.0})
        tasks = [("base", plain)] * compare + [("adapted", options)]
        files: dict[str, list[Path]] = {"base": [], "adapted": []}
        for number, (kind, task) in enumerate(tasks):
            text = "The base model paints" if kind == "base" else "Your adapter paints"

            def on_step(done: int, total: int, number: int = number, text: str = text) -> None:
                tell((number + done / total) / len(tasks), text)

            files[kind] = _write(base, task, stem=kind, on_step=on_step)
        asked = options.request(options.prompt, num_images=options.num_images)
        archive = _pack(options.output_dir, [*files["base"], *files["adapted"]])
        seconds = time.monotonic() - begun
        return Painted(
            files["base"], files["adapted"], archive, asked.prompts, asked.seeds, seconds
        )

    def _open(self, options: GenerateOptions) -> Base:
        if self._base is None or self._base.name != options.pretrained_model_name_or_path:
            self._base = None
            hush()
            self._base = options.open_base()
        return self._base


def advice(name: str) -> Recommended:
    """What the makers of a base advise, without loading it."""
    return read_recommended(Path(name), native_resolution=Recommended.resolution)


def _write(
    base: Base, options: GenerateOptions, *, stem: str, on_step: Callable[[int, int], None]
) -> list[Path]:
    """Make the pictures of one model; the base is as it was afterwards."""
    request = options.request(options.prompt, num_images=options.num_images).resolved(base)
    bundle = options.attach(base, options.adapter)
    try:
        pictures = generate(base, request, on_step=on_step)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(
            "The memory ran out. Ask for fewer pictures, or stop what else is running."
        ) from error
    finally:
        if bundle:
            bundle.detach()
    make_folder(options.output_dir)
    paths = []
    for number, picture in enumerate(pictures):
        recipe = recipe_of(base, request, number, bundle=bundle, options=options)
        path = options.output_dir / f"{stem}-{number:02d}-seed-{request.seeds[number]}.png"
        paths.append(save_png(picture, path, recipe))
    return paths


def _pack(folder: Path, files: Sequence[Path]) -> Path:
    """A zip of the pictures and a sheet of all of them."""
    sheet = folder / "contact_sheet.png"
    contact_sheet([Image.open(path) for path in files]).save(sheet)
    archive = folder / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for path in [*files, sheet]:
            pack.write(path, path.name)
    return archive

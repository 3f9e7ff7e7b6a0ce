"""Makes the pictures: the base and the adapted model, with the same seeds, steered or not."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from orthodiff.cli.generate import GenerateOptions, recipe_of
from orthodiff.control import overlay
from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import contact_sheet
from orthodiff.io.atomic import make_folder
from orthodiff.io.png_metadata import save_png
from orthodiff.logs import quiet_libraries
from orthodiff.models import Base, Recommended
from orthodiff.models.base import native_resolution, read_recommended
from orthodiff.sampling import GenerateRequest, generate

MOST_PICTURES = 32
OnProgress = Callable[[float, str], None]
"""Called with the share that is done, from 0 to 1, and what is being done."""


@dataclass(frozen=True)
class Painted:
    """The files of one request: for each map, if any, and each prompt, a group of pictures.

    `base` is empty unless the comparison was asked for, and has each prompt once; `overlays` are
    the adapted pictures with their maps laid over.
    """

    base: Sequence[Path]
    adapted: Sequence[Path]
    maps: Sequence[Path]
    overlays: Sequence[Path]
    archive: Path
    prompts: Sequence[str]
    seeds: Sequence[int]
    seconds: float

    @property
    def groups(self) -> list[range]:
        """The places of the pictures that differ in nothing but their seeds."""
        size = self.seeds.index(self.seeds[-1]) + 1
        return [range(start, start + size) for start in range(0, len(self.seeds), size)]

    def map_of(self, place: int) -> Path | None:
        """The map that steered the adapted picture at a place."""
        return self.maps[place * len(self.maps) // len(self.seeds)] if self.maps else None


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
        count = len(_asked(options).prompts)
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
        plain = options.model_copy(update={"adapter": (), "strength": 1.0, "condition": ()})
        tasks = [("base", plain)] * compare + [("adapted", options)]
        files: dict[str, list[Path]] = {"base": [], "adapted": []}
        for number, (kind, task) in enumerate(tasks):
            text = "The base model paints" if kind == "base" else "Your adapter paints"

            def on_step(done: int, total: int, number: int = number, text: str = text) -> None:
                tell((number + done / total) / len(tasks), text)

            files[kind] = _write(base, task, stem=kind, on_step=on_step)
        overlays = _lay_over(files["adapted"], options)
        sheet = options.output_dir / "contact_sheet.png"
        _sheet(files["base"], files["adapted"], overlays).save(sheet)
        written = [*options.condition, *files["base"], *files["adapted"], *overlays, sheet]
        asked = _asked(options)
        return Painted(
            base=files["base"],
            adapted=files["adapted"],
            maps=options.condition,
            overlays=overlays,
            archive=_pack(options.output_dir, written),
            prompts=asked.prompts,
            seeds=asked.seeds,
            seconds=time.monotonic() - begun,
        )

    def _open(self, options: GenerateOptions) -> Base:
        if self._base is None or self._base.name != options.pretrained_model_name_or_path:
            self._base = None
            quiet_libraries()
            self._base = options.open_base()
        return self._base


def advice(name: str) -> Recommended:
    """What the makers of a base advise, without loading it."""
    folder = Path(name)
    native = native_resolution(folder) or Recommended.resolution
    return read_recommended(folder, native_resolution=native)


def _asked(options: GenerateOptions) -> GenerateRequest:
    """Every prompt for every map, with every seed, as `generate` on the command line has it."""
    prompts = options.prompt * max(options.num_maps, 1)
    return options.request(prompts, num_images=options.num_images)


def _write(
    base: Base, options: GenerateOptions, *, stem: str, on_step: Callable[[int, int], None]
) -> list[Path]:
    """Make the pictures of one model; the base is as it was afterwards."""
    request = _asked(options).resolved(base)
    adapter_set = options.attach(base, options.adapter)
    try:
        steering = options.steering(adapter_set, request, on_note=lambda note: None)
        pictures = generate(base, request, steering=steering, on_step=on_step)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(
            "The memory ran out. Ask for fewer pictures, or stop what else is running."
        ) from error
    finally:
        if adapter_set:
            adapter_set.detach()
    make_folder(options.output_dir)
    paths = []
    for number, picture in enumerate(pictures):
        recipe = recipe_of(base, request, number, adapter_set=adapter_set, options=options)
        path = options.output_dir / f"{stem}-{number:02d}-seed-{request.seeds[number]}.png"
        paths.append(save_png(picture, path, recipe))
    return paths


def _lay_over(files: Sequence[Path], options: GenerateOptions) -> list[Path]:
    """Write each steered picture with its map laid over it."""
    written = []
    for number, path in enumerate(files):
        used, _ = options.map_of(number, len(files))  # the page gives maps ready
        if used:
            laid = path.with_name(path.name.replace("adapted", "overlay"))
            with Image.open(path) as picture, Image.open(used) as lines:
                overlay(picture, lines).save(laid)
            written.append(laid)
    return written


def _sheet(base: Sequence[Path], adapted: Sequence[Path], overlays: Sequence[Path]) -> Image.Image:
    """All pictures; or, where maps steered, the steered ones, each beside its overlay."""
    if not overlays:
        return contact_sheet([Image.open(path) for path in [*base, *adapted]])
    pairs = [path for pair in zip(adapted, overlays, strict=True) for path in pair]
    return contact_sheet([Image.open(path) for path in pairs], multiple=2)


def _pack(folder: Path, files: Sequence[Path]) -> Path:
    """A zip of files of this folder."""
    archive = folder / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for path in files:
            pack.write(path, path.name)
    return archive

"""Pairs of a map and a captioned image of the pocket world, to learn and to test control.

Two splits, alike in nothing that is shown: `train` never has the classes of `HELD_OUT_CLASSES`, nor
a layout that is held out; `held-out` has only these. A layout is a context with a pose, in cells of
a twenty-fifth of the image; a stable hash of the cell holds out one in four. Looks that are held
out from pretraining are in neither, so that what is measured is control and nothing else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from orthodiff.control import Canny, Scribble, Segmentation
from orthodiff.errors import UserError
from orthodiff.io.atomic import replacing
from pocket.painted.appearances import Appearance, random_appearance
from pocket.painted.glyphs import CLASSES
from pocket.painted.grounds import GROUNDS, SETTINGS
from pocket.painted.regions import LABELS, recording
from pocket.painted.world import (
    Painting,
    Pose,
    compose,
    random_caption,
    random_pose,
)

Drawn = TypeVar("Drawn")

SPLITS = ("train", "held-out")
HELD_OUT_CLASSES = frozenset(name for name in CLASSES if zlib.crc32(name.encode()) % 8 == 0)
ABOUT, LISTED, FOLDERS = "condition.json", "metadata.jsonl", ("images", "maps")
COLUMNS = ("file_name", "conditioning_image_file_name", "text", "class", "context")
CONDITIONS: dict[str, Canny | Scribble | Segmentation] = {
    "canny": Canny(),
    "scribble": Scribble(),
    "segmentation": Segmentation(palette="voc", labels=len(LABELS)),
}
"""What maps there are of the world, with their settings."""


@dataclass(frozen=True)
class Pair:
    """A painting and the label of each of its pixels, `(size, size)`; see `regions.LABELS`."""

    painting: Painting
    labels: np.ndarray


def paint_pair(seed: int, index: int, *, split: str = "train", size: int = 64) -> Pair:
    """Pair `index` of the stream `seed` of a split."""
    rng = np.random.default_rng((23, seed, SPLITS.index(split), index))
    held_out = split != "train"
    appearance = _until(lambda: random_appearance(rng), lambda one: _shows(one, held_out))
    context, pose = _until(
        lambda: (list(GROUNDS)[rng.integers(len(GROUNDS))], random_pose(rng)),
        lambda layout: is_held_out(*layout) == held_out,
    )
    with recording(SETTINGS[context], size) as labels:
        image, mask = compose(appearance, context, pose, rng, size=size)
    labels[mask > 127] = LABELS.index(appearance.name)
    caption = random_caption(appearance, context, rng)
    return Pair(Painting(image, mask, caption, appearance, context, pose), labels)


def is_held_out(context: str, pose: Pose) -> bool:
    """Whether this layout is kept for tests."""
    cell = [round(share * 25) for share in (pose.x, pose.y, pose.side)]
    return zlib.crc32(f"{context}|{cell}|{pose.flip}".encode()) % 4 == 0


def control_image_of(pair: Pair, kind: str) -> Image.Image:
    """The map of a pair: the world's own labels, or what the image's edges are."""
    condition = CONDITIONS[kind]
    if isinstance(condition, Segmentation):
        return condition.paint(pair.labels)
    return condition.compute(Image.fromarray(pair.painting.image))


def write_pairs(
    kind: str,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    split: str = "train",
    size: int = 64,
    overwrite: bool = False,
) -> None:
    """Write an imagefolder: `images/`, `maps/`, `metadata.jsonl`, and `condition.json` about maps.

    The list has the columns `COLUMNS`. The folder appears complete or not at all; with `overwrite`
    it may take the place of another such folder.

    Raises:
        UserError: `out` holds anything else, or such a folder and `overwrite` is not given.
    """
    _check_place(out, overwrite=overwrite)
    with replacing(out.resolve()) as new:
        for folder in FOLDERS:
            (new / folder).mkdir()
        with (new / LISTED).open("w", encoding="utf-8") as listed:
            for index in range(count):
                pair = paint_pair(seed, index, split=split, size=size)
                row = _write_pair(pair, kind, new, _name(index))
                listed.write(json.dumps(row, ensure_ascii=False) + "\n")
        about = {"condition_type": kind, "settings": CONDITIONS[kind].settings()}
        about |= {"labels": list(LABELS)} if kind == "segmentation" else {}
        (new / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def _check_place(out: Path, *, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_ours(out):
        raise UserError(f"`{out}` holds something else already. Choose a new folder.")
    if not overwrite:
        raise UserError(
            f"`{out}` holds pairs already. Choose a new folder or replace them with --overwrite."
        )


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds all that `write_pairs` lists there, and nothing else."""
    try:
        rows = [json.loads(line) for line in (folder / LISTED).read_text("utf-8").splitlines()]
        listed = [(*row, row["file_name"], row["conditioning_image_file_name"]) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    names = [[f"{part}/{_name(index)}" for part in FOLDERS] for index in range(len(rows))]
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    whole = present == {ABOUT, LISTED, *FOLDERS, *chain.from_iterable(names)}
    return whole and listed == [(*COLUMNS, *pair) for pair in names]


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _write_pair(pair: Pair, kind: str, folder: Path, name: str) -> dict[str, str]:
    painting = pair.painting
    Image.fromarray(painting.image).save(folder / "images" / name)
    control_image_of(pair, kind).save(folder / "maps" / name)
    values = (f"images/{name}", f"maps/{name}", painting.caption, painting.appearance.name)
    return dict(zip(COLUMNS, (*values, painting.context), strict=True))


def _shows(appearance: Appearance, held_out: bool) -> bool:
    return not appearance.held_out and (appearance.name in HELD_OUT_CLASSES) == held_out


def _until(draw: Callable[[], Drawn], is_wanted: Callable[[Drawn], bool]) -> Drawn:
    while not is_wanted(drawn := draw()):
        pass
    return drawn

"""Pairs of a map and a captioned scene, to learn and to test control on.

    python -m pocket.world.pairs --views runs/pocket3d/views --kind depth --count 2000 --out DIR

Depth and segmentation are the scene's own truth; edges are those of the image, as at home. The
split `train` shows individuals of pretraining, `held-out` only such as nobody has learned.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from PIL import Image

from orthodiff.control import Canny, Condition, Depth, Scribble, Segmentation
from orthodiff.errors import UserError
from orthodiff.io.atomic import replacing
from pocket.world.labels import LABELS
from pocket.world.models.catalogue import everyone
from pocket.world.rendering.views import ViewStore
from pocket.world.scenes.scene import Scene
from pocket.world.scenes.truth import depth_map
from pocket.world.words import PRETRAINED
from pocket.world.world import World

SPLITS = {"train": 21, "held-out": 22}
"""Name -> what its streams of scenes start from."""
CONDITIONS: dict[str, Condition] = {
    "canny": Canny(),
    "scribble": Scribble(),
    "segmentation": Segmentation(palette="voc", labels=len(LABELS)),
    "depth": Depth(),
}


def control_image_of(scene: Scene, kind: str) -> Image.Image:
    """The map of a scene: its own truth, or what the image's edges are."""
    condition = CONDITIONS[kind]
    if isinstance(condition, Segmentation):
        return condition.paint(scene.labels)
    if kind == "depth":
        return Image.fromarray(depth_map(scene)).convert("RGB")
    return condition.compute(Image.fromarray(scene.image))


def write_pairs(
    world: World, kind: str, count: int, out: Path, *, split: str = "train", seed: int = 0
) -> None:
    """Write an imagefolder: `images/`, `maps/`, `metadata.jsonl`, and `condition.json` about maps.

    Raises:
        UserError: `out` holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"`{out}` is not empty. Choose a new folder.")
    with replacing(out.resolve()) as new:
        for folder in ("images", "maps"):
            (new / folder).mkdir()
        with (new / "metadata.jsonl").open("w", encoding="utf-8") as listed:
            for index in range(count):
                scene, caption = world.scene(SPLITS[split] + 100 * seed, index)
                name = f"{index:05d}.png"
                Image.fromarray(scene.image).save(new / "images" / name)
                control_image_of(scene, kind).save(new / "maps" / name)
                listed.write(json.dumps(_row(scene, caption, name)) + "\n")
        about: dict[str, object] = {"condition_type": kind, "settings": CONDITIONS[kind].settings()}
        about |= {"labels": list(LABELS)} if kind == "segmentation" else {}
        (new / "condition.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def _row(scene: Scene, caption: str, name: str) -> dict[str, str]:
    return {
        "file_name": f"images/{name}",
        "conditioning_image_file_name": f"maps/{name}",
        "text": caption,
        "class": scene.individual.word,
        "context": scene.context,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make pairs of a map and a scene.")
    parser.add_argument("--views", type=Path, default=Path("runs/pocket3d/views"))
    parser.add_argument("--sets", type=int, nargs="+", default=[0])
    parser.add_argument("--kind", choices=tuple(CONDITIONS), required=True)
    parser.add_argument("--split", choices=tuple(SPLITS), default="train")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    some = tuple(
        one
        for one in everyone(options.views)
        if one.word in PRETRAINED and one.held_out == (options.split == "held-out")
    )
    try:
        world = World(ViewStore(options.views), some, tuple(options.sets))
        write_pairs(
            world, options.kind, options.count, options.out, split=options.split, seed=options.seed
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.count} {options.split} pairs with {options.kind} maps in {options.out}")


if __name__ == "__main__":
    main()

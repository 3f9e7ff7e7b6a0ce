"""Subjects: an individual that pretraining never saw, in a few images, as a folder to learn from.

python -m pocket.world.subjects --views runs/pocket3d/views --key "Scopia#armchair" --out DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from orthodiff.errors import UserError
from pocket.painted.world import article
from pocket.world.models.catalogue import Individual, individuals
from pocket.world.places.contexts import CONTEXTS
from pocket.world.rendering.views import ViewStore, render_missing
from pocket.world.scenes.materials import Appearance
from pocket.world.scenes.scene import Scene
from pocket.world.world import World


def held_out() -> tuple[Individual, ...]:
    """All individuals that may be subjects."""
    return tuple(one for one in individuals() if one.held_out)


def find(key: str) -> Individual:
    """The individual of this key.

    Raises:
        UserError: there is none.
    """
    matches = [one for one in individuals() if one.key == key]
    if not matches:
        some = ", ".join(one.key for one in held_out()[:5])
        raise UserError(f"No individual is called `{key}`. Use a key of the catalogue: {some}, ...")
    return matches[0]


def image_subject(world: World, individual: Individual, count: int) -> list[Scene]:
    """`count` scenes of the individual as it is, each in another context."""
    rng = np.random.default_rng((51, zlib.crc32(individual.key.encode())))
    contexts = [str(context) for context in rng.permutation(list(CONTEXTS))]
    return [
        world.scene_of(individual, Appearance(), contexts[k % len(contexts)], rng)[0]
        for k in range(count)
    ]


def write_subject(world: World, individual: Individual, count: int, out: Path) -> dict[str, str]:
    """Write the images and `subject.json`, which also names the creator."""
    out.mkdir(parents=True, exist_ok=True)
    for k, scene in enumerate(image_subject(world, individual, count)):
        Image.fromarray(scene.image).save(out / f"{k:02d}.png")
    word = individual.word
    card = {
        "name": out.name,
        "class": word,
        "instance_prompt": f"a photo of sks {word}",
        "caption": f"a photo of {article(word)} {word}",
        "model": individual.key,
        "creator": individual.creator,
        "licence": individual.licence,
    }
    (out / "subject.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description="Make images of a subject.")
    parser.add_argument("--views", type=Path, default=Path("runs/pocket3d/views"))
    parser.add_argument("--sets", type=int, nargs="+", default=[0])
    parser.add_argument("--key", required=True, help="the individual's key in the catalogue")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        individual = find(options.key)
        render_missing(options.views, [individual], options.sets)
        world = World(ViewStore(options.views), (individual,), tuple(options.sets))
        print(write_subject(world, individual, options.count, options.out))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""Rendered views kept on disk by content: a view is rendered once, and again if anything changes.

    python -m pocket.world.rendering.views --folder DIR --sets 0 1 2

A set holds a few views of one individual. Its file is named after a hash of all that the views
depend on: the files of the model, the cameras and the renderer's settings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from pocket.world.models.catalogue import Individual, individuals, is_installed, write_index
from pocket.world.models.meshes import open_model
from pocket.world.rendering.camera import FRONT, SIDE, View, camera_of, random_view
from pocket.world.rendering.render import LAYERS, SAMPLES, render, set_stage

VERSION = 1
"""Counts changes of the renderer that its settings do not tell."""
VIEWS = 6
"""Views in a set."""
FRONT_SETS = 8
"""Sets below this number look from the front; the others look from all sides."""


def views_of(individual: Individual, number: int) -> list[View]:
    """The views of set `number`, drawn from the individual's own stream."""
    rng = np.random.default_rng((number, zlib.crc32(individual.key.encode())))
    widest = FRONT if number < FRONT_SETS else 180.0
    return [random_view(rng, widest=widest) for _ in range(VIEWS)]


def address(individual: Individual, number: int) -> str:
    """The name of a set: a hash of what it depends on."""
    recipe = {
        "version": VERSION,
        "model": individual.key,
        "files": individual.files,
        "views": [view.as_dict() for view in views_of(individual, number)],
        "side": SIDE,
        "samples": SAMPLES,
        "layers": str(LAYERS),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class ViewStore:
    """A folder of rendered sets."""

    folder: Path

    def path(self, individual: Individual, number: int) -> Path:
        return self.folder / f"{address(individual, number)}.npy"

    def has(self, individual: Individual, number: int) -> bool:
        return self.path(individual, number).is_file()

    def open(self, individual: Individual, number: int) -> np.ndarray:
        """The records `(VIEWS,)` of a set, mapped from disk."""
        return np.load(self.path(individual, number), mmap_mode="r")

    def render(self, individual: Individual, number: int) -> None:
        """Render a set that is not there yet; it appears whole or not at all."""
        model = open_model(individual)
        stage = set_stage(model)
        cameras = (
            camera_of(view, stage.points, model.height) for view in views_of(individual, number)
        )
        records = np.stack([render(stage, camera, seed=3 * k) for k, camera in enumerate(cameras)])
        aside = self.path(individual, number).with_suffix(".part")
        with aside.open("wb") as file:
            np.save(file, records)
        os.replace(aside, self.path(individual, number))


def _render_one(job: tuple[Path, Individual, int]) -> str:
    folder, individual, number = job
    start = time.monotonic()
    ViewStore(folder).render(individual, number)
    return f"set {number} of {individual.key}: {time.monotonic() - start:.1f} s"


def render_missing(
    folder: Path, chosen: list[Individual], sets: list[int], *, processes: int = 1
) -> None:
    """Render what is missing of all sets of the chosen individuals, first sets first."""
    folder.mkdir(parents=True, exist_ok=True)
    store = ViewStore(folder)
    if is_installed():
        write_index(folder, individuals())
    jobs = [
        (folder, individual, number)
        for number, individual in product(sets, chosen)
        if not store.has(individual, number)
    ]
    print(f"{len(jobs)} sets to render", flush=True)
    with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
        for line in pool.map(_render_one, jobs):
            print(line, flush=True)


def _one_thread() -> None:
    import drjit

    drjit.set_thread_count(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render views of the world's individuals.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket/views"))
    parser.add_argument("--sets", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--words", nargs="+", help="classes to render (default: all)")
    options = parser.parse_args()
    chosen = [one for one in individuals() if not options.words or one.word in options.words]
    render_missing(options.folder, chosen, options.sets, processes=options.processes)


if __name__ == "__main__":
    main()

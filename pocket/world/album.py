"""An album of composed scenes on disk, composed once and read by every stage of the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pocket.painted.album import Album
from pocket.world.scenes.scene import Scene
from pocket.world.world import World

_CHUNK = 250
Card = dict[str, str | None]


@dataclass(frozen=True)
class _Job:
    world: World
    seed: int
    size: int


def card(scene: Scene, caption: str) -> Card:
    """What is known of a scene, as plain values."""
    return {
        "caption": caption,
        "class": scene.individual.word,
        "individual": scene.individual.key,
        "colour": scene.appearance.colour,
        "finish": scene.appearance.finish,
        "context": scene.context,
    }


def compose_many(
    world: World, seed: int, numbers: Sequence[int], *, size: int = 128
) -> tuple[np.ndarray, list[Card]]:
    """These images of a stream, `(n, size, size, 3)` uint8, and their cards."""
    pairs = [world.scene(seed, number, size=size) for number in numbers]
    return np.stack([scene.image for scene, _ in pairs]), [card(*pair) for pair in pairs]


def _chunk(start: int, job: _Job) -> tuple[np.ndarray, list[Card]]:
    numbers = range(start, start + _CHUNK)
    return compose_many(job.world, job.seed, numbers, size=job.size)


def open_album(
    folder: Path, world: World, *, count: int, size: int = 128, seed: int = 0, processes: int = 1
) -> Album:
    """The album in `folder`; what is missing of it is composed first, chunk by chunk."""
    if not (folder / "cards.json").exists():
        _compose_album(folder, _Job(world, seed, size), count, processes)
    return Album(folder)


def _compose_album(folder: Path, job: _Job, count: int, processes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-count // _CHUNK) * _CHUNK
    path, shape = folder / "images.npy", (count, job.size, job.size, 3)
    mode = "r+" if path.exists() else "w+"
    images = np.lib.format.open_memmap(path, mode=mode, dtype=np.uint8, shape=shape)
    starts = [start for start in range(0, count, _CHUNK) if not _cards_of(folder, start).exists()]
    with ProcessPoolExecutor(processes) as pool:
        chunks = pool.map(partial(_chunk, job=job), starts)
        for start, (chunk, cards) in zip(starts, chunks, strict=True):
            images[start : start + _CHUNK] = chunk
            images.flush()
            _cards_of(folder, start).write_text(json.dumps(cards))
    parts = [json.loads(_cards_of(folder, start).read_text()) for start in range(0, count, _CHUNK)]
    (folder / "cards.json").write_text(json.dumps([one for part in parts for one in part]))
    for start in range(0, count, _CHUNK):
        _cards_of(folder, start).unlink()


def _cards_of(folder: Path, start: int) -> Path:
    """The cards of a chunk: their presence says that its images are written."""
    return folder / f"cards-{start:07d}.json"

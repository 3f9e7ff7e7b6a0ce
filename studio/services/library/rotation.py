"""How far an adapter turns each layer, for the map of a run's page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from orthodiff.adapters.peft_format.angles import saved_angles
from orthodiff.adapters.peft_format.method_format import CONFIG, WEIGHTS
from orthodiff.training.checkpoints.sealed import list_checkpoints

BEST = "best"


@dataclass(frozen=True)
class Turn:
    """A layer's angles in degrees: the largest, and the root of the mean square of all."""

    layer: str
    largest: float
    typical: float


def newest_weights(folder: Path) -> Path | None:
    """The best weights of a run, the last, or those of its newest checkpoint; None before any."""
    places = [folder / BEST, folder, *reversed(list_checkpoints(folder))]
    return next((place for place in places if (place / CONFIG).is_file()), None)


def turns(folder: Path) -> tuple[Turn, ...]:
    """The layers of an adapter's folder in the order of the model, computed once for its weights.

    Raises:
        UserError: the folder is no adapter that can be read, or one that does not rotate.
    """
    return _turns(folder, (folder / WEIGHTS).stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _turns(folder: Path, changed: int) -> tuple[Turn, ...]:
    turns = []
    for layer, angles in saved_angles(folder).items():
        degrees = angles.double() * (180 / math.pi)
        typical = float(degrees.square().mean().sqrt()) if len(degrees) else 0.0
        largest = float(degrees.max()) if len(degrees) else 0.0
        turns.append(Turn(layer, round(largest, 3), round(typical, 3)))
    return tuple(sorted(turns, key=lambda turn: _place(turn.layer)))


def _place(layer: str) -> tuple[int, list[tuple[int, str]]]:
    """Down, middle, up; numbers as numbers."""
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    parts = layer.split(".")
    return order.get(parts[0], 3), [(int(p), "") if p.isdigit() else (-1, p) for p in parts]

"""The ground of a scene in perspective, with its distance and its labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pocket.painted.regions import REGIONS, recording
from pocket.world.places.contexts import CONTEXTS, RUG_REGIONS, RUGS, VARIANTS, tile, tile_mean
from pocket.world.places.tiles import SIDE as TILE_SIDE
from pocket.world.rendering.camera import Camera

FAR = 40.0
"""Distance of what stands at the horizon, in radii of the individual."""
HORIZON = (0.24, 0.44)
"""Where the horizon is in a context that has one, as shares of the image from its top.

A camera that looks down more steeply would lose the horizon, and with it the city or the mountain:
then the ground is laid out as for a flatter camera, as a painter would.
"""


@dataclass(frozen=True)
class Ground:
    """An image of a place without an individual, and the truth about it."""

    image: np.ndarray  # (size, size, 3) uint8
    labels: np.ndarray  # (size, size) uint8: 1 + place in REGIONS
    distance: np.ndarray  # (size, size) float32 along the ground, in radii
    normal: np.ndarray  # (size, size, 3) float32 in camera axes


def paint_ground(phrase: str, camera: Camera, rng: np.random.Generator, size: int) -> Ground:
    """A context as the camera sees it, whose individual stands on the origin."""
    context = CONTEXTS[phrase]
    foot = camera.project(np.zeros((1, 3)))[0]
    row = _horizon_row(camera, foot, size, is_open=bool(context.backdrops))
    x, z, distance = _plane(camera, foot, row, size)
    image = _laid_out(phrase, x, z, distance, rng)
    labels = np.full((size, size), _label(context.below), np.uint8)
    if context.rug:
        _lay_rug(image, labels, context.rug, x, z)
    edge = int(np.clip(np.ceil(row), 0, size))
    if context.backdrops and edge > 0:
        with recording((context.above or context.below,), size) as seen:
            for backdrop in context.backdrops:
                backdrop(rng, image, edge)
        labels[:edge] = seen[:edge]
    normal = _normals(camera, edge, size)
    return Ground(image, labels, distance, normal)


def _label(region: str) -> int:
    return 1 + REGIONS.index(region)


def _horizon_row(camera: Camera, foot: np.ndarray, size: int, *, is_open: bool) -> float:
    """Where the ground ends: the camera's own horizon, held inside the image or outside of it."""
    flat = camera.axes[2] * (1, 0, 1)
    seen = camera.axes @ flat
    row = float(camera.centre[1] - camera.focal * seen[1] / max(seen[2], 1e-6))
    if not is_open:
        return min(row, -0.12 * size)
    return float(np.clip(row, HORIZON[0] * size, min(HORIZON[1] * size, foot[1] - 0.2 * size)))


def _plane(
    camera: Camera, foot: np.ndarray, row: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates on the ground around the foot, right and away, and the distance of each pixel."""
    near = float(np.linalg.norm(camera.eye * (1, 0, 1)))
    rows = np.arange(size, dtype=np.float32) + 0.5
    share = np.maximum((rows - row) / (foot[1] - row), 1e-3)
    away = np.minimum(near / share, FAR)[:, None]
    across = (np.arange(size, dtype=np.float32) + 0.5 - foot[0])[None] / camera.focal
    x = (across * away).astype(np.float32)
    z = np.broadcast_to(away - near, x.shape).astype(np.float32)
    distance = np.broadcast_to(away, x.shape).astype(np.float32).copy()
    distance[: int(np.clip(np.ceil(row), 0, size))] = FAR
    return x, z, distance


def _laid_out(
    phrase: str, x: np.ndarray, z: np.ndarray, distance: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The context's tile laid over the plane; far away it fades to its mean, as haze does."""
    variant = int(rng.integers(VARIANTS))
    source = tile(phrase, variant)
    scale = TILE_SIDE / CONTEXTS[phrase].span
    shift = rng.uniform(0, TILE_SIDE, 2)
    columns, rows = x * scale + shift[0], shift[1] - z * scale
    image = cv2.remap(
        source,
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    haze = np.clip((distance - 7) / 14, 0, 0.9)[..., None].astype(np.float32)
    return (image * (1 - haze) + tile_mean(phrase, variant) * haze).astype(np.uint8)


def _lay_rug(
    image: np.ndarray,
    labels: np.ndarray,
    rug: tuple[str, tuple[int, int, int], tuple[int, int, int]],
    x: np.ndarray,
    z: np.ndarray,
) -> None:
    shape, colour, second = rug
    inside, marked = RUGS[shape](x, z)
    grain = image.mean(-1, keepdims=True)
    grain = grain / max(float(grain.mean()), 1)
    for where, ink in ((inside, colour), (inside & marked, second)):
        inked = np.clip(np.array(ink, np.float32) * (0.7 + 0.3 * grain), 0, 255)
        image[where] = inked[where].astype(np.uint8)
    labels[inside] = _label(RUG_REGIONS[shape])


def _normals(camera: Camera, edge: int, size: int) -> np.ndarray:
    """Up on the ground, towards the camera at the horizon."""
    up = camera.axes @ (0, 1, 0) * (1, 1, -1)
    normal = np.empty((size, size, 3), np.float32)
    normal[:edge], normal[edge:] = (0, 0, 1), up
    return normal

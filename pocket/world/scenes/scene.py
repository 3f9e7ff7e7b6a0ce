"""A scene: one individual with a look, in a context, with all that is true of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from pocket.world.labels import LABELS
from pocket.world.models.catalogue import Individual
from pocket.world.places.contexts import CONTEXTS, Context
from pocket.world.places.ground import Ground, paint_ground
from pocket.world.rendering.camera import FILLED, SIDE, Camera, View
from pocket.world.scenes.lighting import shade, surface_of
from pocket.world.scenes.materials import Appearance, Surface

WATERLINE = 0.1
"""How deep a floating individual sinks, in shares of its height."""


@dataclass(frozen=True)
class Pose:
    """Where the middle of an individual is and how large it is, as shares of the image."""

    x: float
    y: float
    side: float
    flip: bool


@dataclass(frozen=True)
class Scene:
    """An image of the world and the truth about it; arrays are `(size, size, ...)`."""

    image: np.ndarray  # uint8 RGB
    mask: np.ndarray  # uint8, 255 where the individual is
    labels: np.ndarray  # uint8, places in `labels.LABELS`
    distance: np.ndarray  # float32, forward along the ground in radii of the individual
    normal: np.ndarray  # float32 unit vectors: right, up, towards the camera
    individual: Individual
    appearance: Appearance
    view: View
    context: str
    pose: Pose


@dataclass(frozen=True)
class _Placed:
    """An individual's layers where they lie in the image."""

    colour: np.ndarray  # premultiplied by alpha
    alpha: np.ndarray
    distance: np.ndarray
    normal: np.ndarray
    shadow: np.ndarray


def random_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        x=rng.uniform(0.44, 0.56),
        y=rng.uniform(0.5, 0.57),
        side=rng.uniform(0.68, 0.86),
        flip=bool(rng.random() < 0.5),
    )


def compose(
    record: np.ndarray,
    individual: Individual,
    view: View,
    appearance: Appearance,
    context: str,
    pose: Pose,
    rng: np.random.Generator,
    *,
    size: int = 128,
) -> Scene:
    """Put the individual of a rendered view into a context: light, shadow, reflection, truth."""
    place = CONTEXTS[context]
    camera = Camera.of_row(record["camera"])
    scale = pose.side * size / (FILLED * SIDE)
    shift = np.array((pose.x, pose.y)) * size - scale * SIDE / 2
    placed = _placed(record, camera, appearance, place, scale, shift, size)
    seen = replace(camera, focal=camera.focal * scale, centre=camera.centre * scale + shift)
    ground = paint_ground(context, seen, rng, size)
    image = _blend(ground, placed, place)
    mask = np.round(placed.alpha[..., 0] * 255).astype(np.uint8)
    inside = mask > 127
    labels = np.where(inside, LABELS.index(individual.word), ground.labels).astype(np.uint8)
    is_known = inside & (placed.distance > 0)  # at the rim some pixels are mostly ground
    distance = np.where(is_known, placed.distance, ground.distance).astype(np.float32)
    normal = np.where(is_known[..., None], placed.normal, ground.normal)
    scene = Scene(
        image, mask, labels, distance, normal, individual, appearance, view, context, pose
    )
    return _flipped(scene) if pose.flip else scene


def _placed(
    record: np.ndarray,
    camera: Camera,
    appearance: Appearance,
    place: Context,
    scale: float,
    shift: np.ndarray,
    size: int,
) -> _Placed:
    surface = surface_of(record, camera)
    alpha = record["alpha"].astype(np.float32)[..., None] / 255
    if place.reflection and place.below != "mirror":
        alpha = alpha * _above_water(surface, alpha)
    colour = shade(record, surface, camera, appearance, place.light)
    forward = camera.axes[2] * (1, 0, 1)
    distance = (surface.position - camera.eye) @ (forward / np.linalg.norm(forward))
    layers = np.concatenate([colour * alpha, alpha], -1).astype(np.float32)
    distance *= record["distance"] > 0
    truth = np.concatenate([distance[..., None], surface.normal], -1).astype(np.float32)
    move = _affine(scale, shift)
    layers = cv2.warpAffine(layers, move, (size, size), flags=cv2.INTER_LINEAR)
    truth = cv2.warpAffine(truth, move, (size, size), flags=cv2.INTER_NEAREST)
    wide = _affine(2 * scale, shift - scale * SIDE / 2)
    shadow = record["shadow"].astype(np.float32) / 255
    shadow = cv2.warpAffine(shadow, wide, (size, size), flags=cv2.INTER_LINEAR)[..., None]
    return _Placed(layers[..., :3], layers[..., 3:], truth[..., 0], truth[..., 1:], shadow)


def _affine(scale: float, shift: np.ndarray) -> np.ndarray:
    """`q = scale p + shift` for positions, as a matrix for pixel numbers (middles at halves)."""
    x, y = 0.5 * scale + shift - 0.5
    return np.array([[scale, 0, x], [0, scale, y]], np.float32)


def _above_water(surface: Surface, alpha: np.ndarray) -> np.ndarray:
    """Share of each pixel above the waterline."""
    height = surface.position[..., 1:2]
    top = float(height[alpha > 0.5].max(initial=0.1))
    return np.clip((height - WATERLINE * top) / (0.03 * top), 0, 1)


def _blend(ground: Ground, placed: _Placed, place: Context) -> np.ndarray:
    dark = placed.shadow * place.light.shadow * (0.4 if place.reflection else 1.0)
    image = ground.image.astype(np.float32) * (1 - dark)
    if place.reflection:
        colour, alpha = _reflected(placed)
        share = place.reflection
        image = image * (1 - share * alpha) + 255 * share * colour
    image = image * (1 - placed.alpha) + 255 * placed.colour
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _reflected(placed: _Placed) -> tuple[np.ndarray, np.ndarray]:
    """The individual upside down below its lowest row, fading away."""
    rows = np.flatnonzero(placed.alpha.max((1, 2)) > 0.5)
    size = len(placed.alpha)
    if not len(rows):
        return placed.colour, placed.alpha
    bottom = int(rows[-1])
    mirrored = np.clip(2 * bottom - np.arange(size), 0, size - 1)
    below = np.arange(size) - bottom
    fade = np.where(below > 0, np.clip(1 - below / (0.5 * size), 0, 1), 0)[:, None, None]
    return placed.colour[mirrored] * fade, placed.alpha[mirrored] * fade


def _flipped(scene: Scene) -> Scene:
    return replace(
        scene,
        image=_mirrored(scene.image),
        mask=_mirrored(scene.mask),
        labels=_mirrored(scene.labels),
        distance=_mirrored(scene.distance),
        normal=_mirrored(scene.normal) * np.array((-1, 1, 1), np.float32),
    )


def _mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])

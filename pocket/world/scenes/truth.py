"""Maps of a scene from its own truth: depth, normals, segmentation, edges, mask."""

from __future__ import annotations

import cv2
import numpy as np

from pocket.world.scenes.scene import Scene


def depth_map(scene: Scene) -> np.ndarray:
    """Nearness `(size, size)` uint8: one over the distance, the nearest white, the farthest black.

    Estimators of depth give it so, up to scale and shift.
    """
    near = 1 / np.maximum(scene.distance, 0.5)
    low, high = float(near.min()), float(np.quantile(near, 0.999))
    return np.round(255 * np.clip((near - low) / (high - low), 0, 1)).astype("u1")


def normal_map(scene: Scene) -> np.ndarray:
    """Directions as colours `(size, size, 3)` uint8: right is red, up green, towards you blue."""
    return np.round((scene.normal + 1) * 127.5).clip(0, 255).astype("u1")


def edge_map(scene: Scene) -> np.ndarray:
    """Outlines and creases `(size, size)` uint8: where region, distance or direction jumps."""
    labels = cv2.morphologyEx(scene.labels, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    distance = np.log(np.maximum(scene.distance, 1e-3))
    jump = np.maximum(*_differences(distance[..., None])) > 0.08
    crease = np.maximum(*_differences(scene.normal)) > 0.6
    inside = cv2.erode(scene.mask, np.ones((3, 3), np.uint8)) > 127
    return np.where(labels | ((jump | crease) & inside), 255, 0).astype("u1")


def _differences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the pixel on the right and to the one below."""
    right = np.linalg.norm(np.diff(values, axis=1, append=values[:, -1:]), axis=-1)
    below = np.linalg.norm(np.diff(values, axis=0, append=values[-1:]), axis=-1)
    return right, below

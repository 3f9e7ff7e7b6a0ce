"""The shadow of an individual on the ground, exactly where the sun puts it, without rendering."""

from __future__ import annotations

import cv2
import numpy as np

from pocket.world.rendering.camera import SIDE, Camera

CONTACT = 0.06
"""Surfaces lower than this, in radii, darken the ground right below them."""
_SHIFT = 4  # bits of a fraction of a pixel in OpenCV's polygons


def ground_shadow(points: np.ndarray, faces: np.ndarray, camera: Camera) -> np.ndarray:
    """Share of light that is missing, `(SIDE, SIDE)` in [0, 1].

    The image is twice as wide as the view around the same middle, at half the scale, because
    shadows reach further than what casts them.
    """
    along = points - points[:, 1:2] * (camera.to_sun / camera.to_sun[1])
    below = points * (1, 0, 1)
    low = faces[(points[faces, 1] < CONTACT).all(1)]
    cast = cv2.GaussianBlur(_filled(camera.project(along), faces), (0, 0), 1.2)
    contact = cv2.GaussianBlur(_filled(camera.project(below), low), (0, 0), 2.0)
    return np.maximum(cast * 0.8, np.minimum(contact * 1.2, 1))


def _filled(pixels: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles filled on an empty image, float32."""
    image = np.zeros((SIDE, SIDE), np.float32)
    places = (pixels - SIDE / 2) / 2 + SIDE / 2
    corners = np.round((places - 0.5) * 2**_SHIFT).astype(np.int32)[faces]
    for triangle in corners:
        cv2.fillConvexPoly(image, triangle, 1.0, cv2.LINE_8, _SHIFT)
    return image

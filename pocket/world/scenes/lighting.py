"""Lighting a view: colours of the surface times the light of a context's sun and sky."""

from __future__ import annotations

import numpy as np

from pocket.world.places.contexts import Light
from pocket.world.rendering.camera import Camera
from pocket.world.scenes.materials import Appearance, Surface, finished

GLOSS = 0.1
_TABLE = 4096


def surface_of(record: np.ndarray, camera: Camera) -> Surface:
    """What a record of `render.LAYERS` knows of the surface, as shares and radii."""
    distance = record["distance"].astype(np.float32)[..., None]
    rays = camera.rays().astype(np.float32)
    normal = record["normal"].astype(np.float32) / 127
    # Some models are turned inside out: what is seen is a front, so its normal comes towards us.
    away = (normal * (rays @ camera.axes.T.astype(np.float32) * (1, 1, -1))).sum(-1) > 0
    normal[away] *= -1
    return Surface(
        albedo=record["albedo"].astype(np.float32) / 255,
        position=camera.eye.astype(np.float32) + rays * distance,
        normal=normal,
    )


def shade(
    record: np.ndarray, surface: Surface, camera: Camera, appearance: Appearance, light: Light
) -> np.ndarray:
    """The individual as it looks in this light, `(h, w, 3)` sRGB in [0, 1], float32."""
    sun = record["sun"].astype(np.float32)[..., None] / 255
    sky = record["sky"].astype(np.float32)[..., None] / 255
    facing = np.array((1, 1, -1))
    up, to_sun = (camera.axes @ v * facing for v in (np.array((0.0, 1.0, 0.0)), camera.to_sun))
    half = to_sun + np.array((0, 0, 1))
    shine = np.maximum(surface.normal @ (half / np.linalg.norm(half)), 0)[..., None] ** 24
    openness = 0.72 + 0.28 * (surface.normal @ up)[..., None]
    lit = np.array(light.sun) * sun + np.array(light.sky) * sky * openness
    bright = _linear(finished(surface, appearance)) * lit + GLOSS * shine * sun * np.array(
        light.sun
    )
    return _srgb(bright)


def _linear(encoded: np.ndarray) -> np.ndarray:
    return _LINEAR[np.round(encoded * (_TABLE - 1)).astype(np.int32)]


def _srgb(linear: np.ndarray) -> np.ndarray:
    return _SRGB[np.round(np.clip(linear, 0, 1) * (_TABLE - 1)).astype(np.int32)]


_STEPS = np.linspace(0, 1, _TABLE)
# Tables are five times as fast as powers, and images are made by the hundred thousand.
_LINEAR = np.where(_STEPS < 0.04045, _STEPS / 12.92, ((_STEPS + 0.055) / 1.055) ** 2.4).astype("f4")
_SRGB = np.where(_STEPS < 0.0031308, 12.92 * _STEPS, 1.055 * _STEPS ** (1 / 2.4) - 0.055).astype(
    "f4"
)

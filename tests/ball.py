"""A ball as the rendered world's only individual: its views follow from an equation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocket.world.models.catalogue import Individual
from pocket.world.rendering.camera import View, camera_of
from pocket.world.rendering.render import LAYERS
from pocket.world.rendering.shadow import ground_shadow
from pocket.world.rendering.views import ViewStore, views_of
from pocket.world.world import World

VIEW = View(azimuth=30.0, elevation=10.0, distance=4.0, sun_azimuth=-50.0, sun_elevation=45.0)
BALL = Individual(
    "Test#ball", "Ball", "ball", "Nobody", "CC0-1.0", "none", "none", (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "0", False,
)  # fmt: skip
RADIUS = 0.7


def ball_points(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A ball of radius `RADIUS` that stands on the ground: points and triangles."""
    turn, lift = np.meshgrid(
        np.linspace(0, 2 * np.pi, count), np.linspace(-np.pi / 2, np.pi / 2, count)
    )
    points = np.stack([np.cos(lift) * np.cos(turn), np.sin(lift), np.cos(lift) * np.sin(turn)], -1)
    numbers = np.arange(count * count).reshape(count, count)
    corners = [numbers[:-1, :-1], numbers[1:, :-1], numbers[1:, 1:], numbers[:-1, 1:]]
    a, b, c, d = (part.ravel() for part in corners)
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return points.reshape(-1, 3) * RADIUS + (0, RADIUS, 0), faces


def ball_record(view: View) -> np.ndarray:
    """What a renderer would give for the ball, from the equation of a sphere."""
    points, faces = ball_points()
    camera = camera_of(view, points, 2 * RADIUS)
    rays, middle = camera.rays(), np.array((0, RADIUS, 0))
    along = rays @ (middle - camera.eye)
    inner = along**2 - ((middle - camera.eye) ** 2).sum() + RADIUS**2
    hit = inner > 0
    distance = np.where(hit, along - np.sqrt(np.maximum(inner, 0)), 0)
    normal = (camera.eye + rays * distance[..., None] - middle) / RADIUS
    record = np.zeros((), LAYERS)
    record["albedo"] = (200, 60, 60)
    record["alpha"] = hit * 255
    record["sun"] = np.where(hit, np.clip(normal @ camera.to_sun, 0, 1) * 255, 0)
    record["sky"] = 255
    seen = normal @ camera.axes.T * (1, 1, -1)
    record["normal"] = np.where(hit[..., None], np.round(seen * 127), 0)
    record["distance"] = distance
    record["shadow"] = np.round(ground_shadow(points, faces, camera) * 255)
    record["camera"] = camera.as_row()
    return record


def ball_world(folder: Path) -> World:
    """A world of the ball, whose views are written into a folder."""
    store = ViewStore(folder)
    np.save(store.path(BALL, 0), np.stack([ball_record(view) for view in views_of(BALL, 0)]))
    return World(store, (BALL,), (0,))

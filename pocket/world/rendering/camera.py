"""From where an individual is seen and lit, and how points fall on the image."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

SIDE = 128
"""Side of a rendered view in pixels: the individual is never larger in an image of 128 pixels."""
FILLED = 0.94
"""Share of the view that the individual fills, the longer way."""
FRONT = 75.0
"""The first pretraining sees individuals at most this far from the front, in degrees."""


@dataclass(frozen=True)
class View:
    """Angles in degrees; azimuth 0 is the front. The sun's azimuth counts from the camera's."""

    azimuth: float
    elevation: float
    distance: float  # in radii of the individual
    sun_azimuth: float
    sun_elevation: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def random_view(rng: np.random.Generator, *, widest: float = FRONT) -> View:
    """A view at most `widest` degrees from the front, the sun in front or at a side."""
    return View(
        azimuth=round(float(rng.uniform(-widest, widest)), 2),
        elevation=round(float(rng.uniform(6, 32)), 2),
        distance=round(float(rng.uniform(3.2, 5.5)), 2),
        sun_azimuth=round(float(rng.choice((-1, 1)) * rng.uniform(20, 100)), 2),
        sun_elevation=round(float(rng.uniform(35, 65)), 2),
    )


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector from the origin: azimuth 0 is +z, 90 is +x; y is up."""
    turn, lift = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera whose image is framed around the individual.

    A point `p` falls on the pixel `focal * (x, -y) / z + centre` with `(x, y, z) = axes (p - eye)`.
    """

    eye: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3): rows point right, up and forward
    focal: float  # in pixels
    centre: np.ndarray  # (2,) pixels: where the forward axis meets the image
    to_sun: np.ndarray  # (3,) unit vector

    def as_row(self) -> np.ndarray:
        """All numbers in one row of 18, as kept beside a view."""
        parts = (self.eye, self.axes.ravel(), [self.focal], self.centre, self.to_sun)
        return np.concatenate(parts).astype(np.float32)

    @classmethod
    def of_row(cls, row: np.ndarray) -> Camera:
        row = np.asarray(row, np.float64)
        return cls(row[:3], row[3:12].reshape(3, 3), float(row[12]), row[13:15], row[15:18])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels `(n, 2)` of points `(n, 3)`; pixel centres are at halves."""
        seen = (points - self.eye) @ self.axes.T
        depth = np.maximum(seen[:, 2:], 1e-3)
        return self.focal * seen[:, :2] * (1, -1) / depth + self.centre

    def rays(self, side: int = SIDE) -> np.ndarray:
        """Unit directions `(side, side, 3)` from the eye through the middles of the pixels."""
        places = np.mgrid[0:side, 0:side][::-1].transpose(1, 2, 0) + 0.5
        plane = (places - self.centre) / self.focal * (1, -1)
        rays = np.concatenate([plane, np.ones_like(plane[..., :1])], -1) @ self.axes
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def camera_of(view: View, points: np.ndarray, height: float, *, side: int = SIDE) -> Camera:
    """The camera of a view, framed so that `points` `(n, 3)` fill the image."""
    target = np.array([0.0, height / 2, 0.0])
    forward = -_direction(view.azimuth, view.elevation)
    right = np.cross(forward, (0, 1, 0))
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), forward])
    eye = target - forward * view.distance
    to_sun = _direction(view.azimuth + view.sun_azimuth, view.sun_elevation)
    flat = Camera(eye, axes, 1.0, np.zeros(2), to_sun).project(points)
    low, high = flat.min(0), flat.max(0)
    focal = FILLED * side / float((high - low).max())
    # The image may only be cut out of a larger one at whole pixels, so the middle is rounded.
    centre = np.round(side / 2 - focal * (low + high) / 2)
    return Camera(eye, axes, focal, centre, to_sun)

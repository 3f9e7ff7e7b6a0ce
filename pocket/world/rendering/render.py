"""Rendering an individual with Mitsuba: not one image but what images are made of.

A view keeps surface colour, light from the sun, light from the sky, normals, distance and the
shadow on the ground apart: a scene can be lit, recoloured and measured later without rendering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pocket.world.models.meshes import Model, Part
from pocket.world.rendering.camera import SIDE, Camera
from pocket.world.rendering.shadow import ground_shadow

SAMPLES = 9
"""Rays a pixel, on a jittered grid."""
SUN_SAMPLES = 4
"""The light of the sun has no noise but at edges."""
LAYERS = np.dtype(
    [
        ("albedo", "u1", (SIDE, SIDE, 3)),  # sRGB colour of the surface
        ("alpha", "u1", (SIDE, SIDE)),
        ("sun", "u1", (SIDE, SIDE)),  # cosine to the sun, 0 in the shade
        ("sky", "u1", (SIDE, SIDE)),  # share of the sky that reaches the surface
        ("normal", "i1", (SIDE, SIDE, 3)),  # in camera axes: right, up, towards the camera
        ("distance", "f2", (SIDE, SIDE)),  # from the eye in radii; 0 beside the individual
        ("shadow", "u1", (SIDE, SIDE)),  # on the ground; twice as wide an image at half the scale
        ("camera", "f4", (18,)),  # see `Camera.as_row`
    ]
)
"""One view as a record of arrays; see the comments for what a layer holds."""
_HALF_FIELD = 30.0  # degrees: wide enough for every individual at every distance


@dataclass(frozen=True)
class Stage:
    """A model ready to be seen: coloured for its attributes, white for sun and for sky."""

    coloured: Any
    sunlit: Any
    skylit: Any
    model: Model
    points: np.ndarray  # (n, 3) all vertices


def set_stage(model: Model) -> Stage:
    """Hand a model's triangles to Mitsuba."""
    white = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 1.0}}
    coloured = [_shape(part, _surface(part)) for part in model.parts]
    plain = [_shape(part, white) for part in model.parts]
    sun = {"type": "directional", "direction": [0, -1, 0], "irradiance": float(np.pi)}
    sky = {"type": "constant", "radiance": 1.0}
    return Stage(
        coloured=_scene(coloured),
        sunlit=_scene(plain, sun=sun),
        skylit=_scene(plain, sky=sky),
        model=model,
        points=np.concatenate([part.vertices for part in model.parts]),
    )


def _scene(shapes: list[Any], **lights: dict[str, Any]) -> Any:
    parts = {f"part{number}": shape for number, shape in enumerate(shapes)}
    return _mitsuba().load_dict({"type": "scene", **parts, **lights})


def render(stage: Stage, camera: Camera, *, seed: int = 0) -> np.ndarray:
    """The layers of one view: a record of `LAYERS`."""
    mi = _mitsuba()
    sensor = mi.load_dict(_sensor(camera))
    # Rays that follow the cosine find the whole sky without noise where nothing is in the way.
    sky = {"type": "direct", "emitter_samples": 0, "bsdf_samples": 1, "hide_emitters": True}
    sun = {"type": "direct", "emitter_samples": 1, "bsdf_samples": 0, "hide_emitters": True}
    shape = {"type": "aov", "aovs": "distance:depth,normal:sh_normal", "image": sky}
    parameters = mi.traverse(stage.sunlit)
    parameters["sun.to_world"] = mi.ScalarTransform4f().look_at(
        origin=[0, 0, 0], target=(-camera.to_sun).tolist(), up=[0.123, 1, 0.321]
    )
    parameters.update()
    colours = _pixels(stage.coloured, sensor, {"type": "aov", "aovs": "albedo:albedo"}, seed)
    shapes = _pixels(stage.skylit, sensor, shape, seed)
    sunlit = _pixels(stage.sunlit, sensor, sun, seed + 1, SUN_SAMPLES)
    return _record(colours, shapes, sunlit, camera, stage)


def _record(
    colours: np.ndarray, shapes: np.ndarray, sunlit: np.ndarray, camera: Camera, stage: Stage
) -> np.ndarray:
    """Means over a pixel include what is beside the individual: divide by the share it covers."""
    alpha = np.clip(shapes[..., 3], 0, 1)
    share = np.maximum(alpha, 1e-3)
    normal = shapes[..., 5:8] @ (camera.axes * [[1], [1], [-1]]).T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    record = np.zeros((), LAYERS)
    record["albedo"] = _bytes(srgb(colours / share[..., None]))
    record["alpha"] = _bytes(alpha)
    record["sun"] = _bytes(sunlit[..., 0] / np.maximum(sunlit[..., 3], 1e-3))
    record["sky"] = _bytes(_smooth(shapes[..., 0] / share))
    record["normal"] = np.round(normal * 127).astype(np.int8)
    record["distance"] = np.where(alpha > 0.05, shapes[..., 4] / share, 0)
    record["shadow"] = _bytes(ground_shadow(stage.points, _faces(stage.model), camera))
    record["camera"] = camera.as_row()
    return record


def _smooth(sky: np.ndarray) -> np.ndarray:
    """The light of the sky is sampled, so it is noisy, but it changes slowly."""
    return cv2.bilateralFilter(sky.astype(np.float32), 5, 0.12, 2.0)


def _bytes(shares: np.ndarray) -> np.ndarray:
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear(encoded: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as linear light."""
    return np.where(encoded < 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _faces(model: Model) -> np.ndarray:
    """The triangles of all parts, counted through the parts' vertices."""
    starts = np.cumsum([0, *(len(part.vertices) for part in model.parts[:-1])])
    pairs = zip(model.parts, starts, strict=True)
    return np.concatenate([part.faces.astype(np.int64) + start for part, start in pairs])


def _mitsuba() -> Any:
    import mitsuba as mi

    if mi.variant() != "scalar_rgb":
        mi.set_variant("scalar_rgb")
    return mi


def _shape(part: Part, surface: dict[str, Any]) -> Any:
    mi = _mitsuba()
    properties = mi.Properties()
    properties["surface"] = mi.load_dict({"type": "twosided", "inner": surface})
    mesh = mi.Mesh(
        "part",
        vertex_count=len(part.vertices),
        face_count=len(part.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=part.uv is not None,
        props=properties,
    )
    values = mi.traverse(mesh)
    values["vertex_positions"] = part.vertices.ravel()
    values["vertex_normals"] = part.normals.ravel()
    values["faces"] = part.faces.ravel()
    if part.uv is not None:
        values["vertex_texcoords"] = (part.uv * (1, -1) + (0, 1)).astype(np.float32).ravel()
    values.update()
    return mesh


def _surface(part: Part) -> dict[str, Any]:
    if part.texture is None or part.uv is None:
        colour = linear(np.array(part.colour)).tolist()
        return {"type": "diffuse", "reflectance": {"type": "rgb", "value": colour}}
    bitmap = _mitsuba().Bitmap(np.array(part.texture[..., :3]))
    return {"type": "diffuse", "reflectance": {"type": "bitmap", "bitmap": bitmap}}


def _sensor(camera: Camera) -> dict[str, Any]:
    """The image is cut out of a larger one that the forward axis meets in the middle."""
    mi = _mitsuba()
    half = int(np.ceil(camera.focal * np.tan(np.radians(_HALF_FIELD))))
    corner = (half - camera.centre).astype(int)
    field = 2 * np.degrees(np.arctan(half / camera.focal))
    eye, forward = camera.eye, camera.axes[2]
    return {
        "type": "perspective",
        "fov": float(field),
        "to_world": mi.ScalarTransform4f().look_at(
            origin=eye.tolist(), target=(eye + forward).tolist(), up=camera.axes[1].tolist()
        ),
        "film": {
            "type": "hdrfilm",
            "width": 2 * half,
            "height": 2 * half,
            "crop_offset_x": int(corner[0]),
            "crop_offset_y": int(corner[1]),
            "crop_width": SIDE,
            "crop_height": SIDE,
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": SAMPLES},
    }


def _pixels(
    scene: Any, sensor: Any, integrator: dict[str, Any], seed: int, samples: int = SAMPLES
) -> np.ndarray:
    mi = _mitsuba()
    return np.array(
        mi.render(scene, sensor=sensor, integrator=mi.load_dict(integrator), seed=seed, spp=samples)
    )

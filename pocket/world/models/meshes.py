"""Opening a model: its parts as triangles with a material each, upright and of unit size."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pocket.world.models.catalogue import MODELS, Individual
from pocket.world.models.wavefront import Material, Triangles, read_obj

TEXTURE_SIDE = 384
"""Textures are made at most this wide: a view of 128 pixels shows no more."""


@dataclass(frozen=True)
class Part:
    """The triangles of one material."""

    vertices: np.ndarray  # (n, 3) float32
    normals: np.ndarray  # (n, 3) float32
    uv: np.ndarray | None  # (n, 2) float32, only beside a texture
    faces: np.ndarray  # (m, 3) uint32
    colour: tuple[float, float, float]  # sRGB in [0, 1]
    texture: np.ndarray | None  # (h, w, 3 or 4) uint8


@dataclass(frozen=True)
class Model:
    """An individual's parts: standing on y = 0, centred over the origin, its radius 1.

    The radius is half the diagonal of the box around it.
    """

    parts: tuple[Part, ...]
    height: float


def open_model(individual: Individual, models: Path = MODELS) -> Model:
    """Read an individual from its archive."""
    folder = str(PurePosixPath(individual.member).parent)
    archive = models / f"{individual.archive}.sh3f"
    with zipfile.ZipFile(archive) as packed, tempfile.TemporaryDirectory() as unpacked:
        names = sorted(name for name in packed.namelist() if name.startswith(f"{folder}/"))
        packed.extractall(unpacked, names)
        triangles, materials = read_obj(Path(unpacked, individual.member))
        raw = [_part(one, materials.get(one.material, Material())) for one in triangles]
    return _standing(raw, np.array(individual.rotation).reshape(3, 3))


def _part(triangles: Triangles, material: Material) -> Part:
    texture = None if triangles.uv is None else _texture(material)
    return Part(
        vertices=triangles.vertices.astype(np.float32),
        normals=triangles.normals.astype(np.float32),
        uv=None if texture is None else np.asarray(triangles.uv, np.float32),
        faces=triangles.faces.astype(np.uint32),
        colour=material.diffuse,
        texture=texture,
    )


def _texture(material: Material) -> np.ndarray | None:
    """The texture's pixels, with an alpha channel where the material cuts holes."""
    if material.texture is None or not material.texture.is_file():
        return None
    image: Image.Image = Image.open(material.texture)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    image = image.convert("RGBA" if has_alpha else "RGB")
    if material.opacity_texture is not None and material.opacity_texture.is_file():
        holes: Image.Image = Image.open(material.opacity_texture)
        holes = holes.getchannel("A") if "A" in holes.getbands() else holes.convert("L")
        image.putalpha(holes.resize(image.size))
    image.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image)
    return pixels if pixels.shape[-1] == 3 or pixels[..., 3].min() < 128 else pixels[..., :3]


def _standing(raw: list[Part], rotation: np.ndarray) -> Model:
    """Turn upright, move over the origin and scale to radius 1."""
    turned = [
        replace(part, vertices=part.vertices @ rotation.T, normals=part.normals @ rotation.T)
        for part in raw
    ]
    points = np.concatenate([part.vertices for part in turned])
    low, high = points.min(0), points.max(0)
    middle = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    radius = float(np.linalg.norm(high - low)) / 2
    parts = tuple(
        replace(
            part,
            vertices=np.ascontiguousarray((part.vertices - middle) / radius, np.float32),
            normals=np.ascontiguousarray(part.normals, np.float32),
        )
        for part in turned
    )
    return Model(parts, float(high[1] - low[1]) / radius)

"""Reading Wavefront OBJ and MTL files: triangles by material, as numpy arrays."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np


@dataclass
class Material:
    """What an MTL file says of one material; textures are paths."""

    diffuse: tuple[float, float, float] = (0.7, 0.7, 0.7)
    opacity: float = 1.0
    texture: Path | None = None
    opacity_texture: Path | None = None


@dataclass(frozen=True)
class Triangles:
    """The triangles of one material, with one row of each array per distinct corner."""

    material: str
    vertices: np.ndarray  # (n, 3) float64
    normals: np.ndarray  # (n, 3) float64
    uv: np.ndarray | None  # (n, 2) float64
    faces: np.ndarray  # (m, 3) int64


@dataclass
class _Raw:
    """The lines of an OBJ file, before corners are told apart. Indices count from 0; -1 is none."""

    points: list[list[str]] = field(default_factory=list)
    textures: list[list[str]] = field(default_factory=list)
    normals: list[list[str]] = field(default_factory=list)
    corners: dict[str, list[tuple[int, int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    libraries: list[str] = field(default_factory=list)


def read_obj(path: Path) -> tuple[list[Triangles], dict[str, Material]]:
    """The triangles of a file by material, and the materials it names."""
    raw = _read_lines(path)
    points = np.array([row[:3] for row in raw.points], np.float64)
    textures = np.array([row[:2] for row in raw.textures], np.float64).reshape(-1, 2)
    normals = np.array([row[:3] for row in raw.normals], np.float64).reshape(-1, 3)
    materials: dict[str, Material] = {}
    for library in raw.libraries:
        if (path.parent / library).is_file():
            materials |= read_mtl(path.parent / library)
    parts = [
        _triangles(name, np.array(corners), points, textures, normals)
        for name, corners in raw.corners.items()
        if corners
    ]
    return parts, materials


def _read_lines(path: Path) -> _Raw:
    raw, material = _Raw(), ""
    for line in path.read_text("latin-1").replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            raw.points.append(rest.split())
        elif word == "vt":
            raw.textures.append(rest.split())
        elif word == "vn":
            raw.normals.append(rest.split())
        elif word == "f":
            corners = [_corner(text, raw) for text in rest.split()]
            fan = pairwise(corners[1:])
            raw.corners[material] += [c for pair in fan for c in (corners[0], *pair)]
        elif word == "usemtl":
            material = rest.strip()
        elif word == "mtllib":
            raw.libraries.append(rest.strip())
    return raw


def _corner(text: str, raw: _Raw) -> tuple[int, int, int]:
    """`7/2/5`, `7//5`, `7` or negative numbers, which count from the end."""
    numbers = [*text.split("/"), "", ""][:3]
    counts = (len(raw.points), len(raw.textures), len(raw.normals))
    first, second, third = (
        -1 if not number else int(number) - 1 if int(number) > 0 else int(number) + count
        for number, count in zip(numbers, counts, strict=True)
    )
    return first, second, third


def _triangles(
    name: str, corners: np.ndarray, points: np.ndarray, textures: np.ndarray, normals: np.ndarray
) -> Triangles:
    distinct, places = np.unique(corners, axis=0, return_inverse=True)
    faces = places.reshape(-1, 3)
    vertices = points[distinct[:, 0]]
    has_normals = len(normals) and (distinct[:, 2] >= 0).all()
    has_uv = len(textures) and (distinct[:, 1] >= 0).all()
    return Triangles(
        material=name,
        vertices=vertices,
        normals=_unit(normals[distinct[:, 2]]) if has_normals else _smooth(vertices, faces),
        uv=textures[distinct[:, 1]] if has_uv else None,
        faces=faces,
    )


def _smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals of the corners, weighted by the areas of the triangles that meet there."""
    first, second, third = (vertices[faces[:, k]] for k in range(3))
    across = np.cross(second - first, third - first)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], across)
    return _unit(total)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def read_mtl(path: Path) -> dict[str, Material]:
    """Materials by name; unreadable lines are left out, as viewers do."""
    materials: dict[str, Material] = {}
    material = Material()
    for line in path.read_text("latin-1").splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word == "newmtl":
            material = materials.setdefault(rest, Material())
        elif word == "Kd":
            red, green, blue = (float(number) for number in rest.split()[:3])
            material.diffuse = (red, green, blue)
        elif word == "d":
            material.opacity = float(rest.split()[-1])
        elif word.lower() == "map_kd":
            material.texture = path.parent / rest.replace("\\", "/")
        elif word.lower() == "map_d":
            material.opacity_texture = path.parent / rest.replace("\\", "/")
    return materials

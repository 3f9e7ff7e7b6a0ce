"""Naive dense twins of every method, written from the papers' definitions, for float64 tests."""

from __future__ import annotations

import torch
from torch import Tensor

from orthodiff.adapters import (
    BOFT,
    HRA,
    OFT,
    LoRA,
    Method,
)


def adapted_weight(method: Method, parameters: dict[str, Tensor], W: Tensor) -> Tensor:
    """Return the adapted weight (out, d) as the method's paper defines it."""
    if isinstance(method, LoRA):
        scale = 1.0 if method.alpha is None else method.alpha / method.rank
        return W + scale * parameters["lora_B.weight"] @ parameters["lora_A.weight"]
    scaled = W @ rotation(method, parameters, W.shape[1])
    return scaled * parameters["boft_s"] if "boft_s" in parameters else scaled


def rotation(method: Method, parameters: dict[str, Tensor], d: int) -> Tensor:
    """Return the dense matrix R (d, d) of a method."""
    if isinstance(method, HRA):
        return reflections(parameters["hra_u"], strict=method.strict)
    if isinstance(method, OFT):
        return block_rotation(constrained(method, parameters["oft_R"], d)).T
    assert isinstance(method, BOFT)
    product = torch.eye(d, dtype=torch.float64)
    for level, triangles in enumerate(parameters["boft_R"]):
        order = coupling(d, level, d // len(triangles))
        factor = torch.zeros_like(product)
        blocks = block_rotation(triangles)
        factor = factor.index_put((order[:, None], order[None, :]), blocks)
        product = factor @ product
    return product.T


def reflections(U: Tensor, *, strict: bool = False) -> Tensor:
    """Return H_1 H_2 ... H_r, after Gram-Schmidt if `strict`, one reflection at a time."""
    product = torch.eye(len(U), dtype=U.dtype)
    units: list[Tensor] = []
    for u in U.T:
        for unit in units if strict else ():
            u = u - (unit @ u) * unit
        units.append(u / u.norm())
        product = product - 2 * torch.outer(product @ units[-1], units[-1])
    return product


def constrained(method: OFT, triangles: Tensor, d: int) -> Tensor:
    """Return one triangle per block, of generators within COFT's ball."""
    if method.eps is not None:
        # A triangle holds half of a skew matrix: its norm is sqrt(2) times smaller.
        radius = method.eps / (2 * len(triangles)) ** 0.5
        rows = [t if t.norm() <= radius else radius * t / t.norm() for t in triangles]
        triangles = torch.stack(rows)
    return triangles.expand(d // method.block_size, -1) if method.block_share else triangles


def block_rotation(triangles: Tensor) -> Tensor:
    """Return blockdiag((I - S_i)(I + S_i)^{-1}) for skew S_i with these upper triangles."""
    blocks: list[Tensor] = []
    block_size = next(b for b in range(2, 999) if b * (b - 1) // 2 == triangles.shape[1])
    for triangle in triangles:
        S = torch.zeros(block_size, block_size, dtype=triangle.dtype)
        row, column = torch.triu_indices(block_size, block_size, 1)
        S = S.index_put((row, column), triangle)
        S = S - S.T
        identity = torch.eye(block_size, dtype=triangle.dtype)
        blocks.append((identity - S) @ torch.linalg.inv(identity + S))
    return torch.block_diag(*blocks)


def coupling(d: int, level: int, block_size: int) -> Tensor:
    """Return the order in which butterfly factor `level` reads its inputs."""
    half, stride = block_size // 2, 2**level
    if level == 0:
        return torch.arange(d)
    order: list[int] = []
    for group in range(0, d // half, 2 * stride):
        for k in range(group, group + stride):
            order += range(k * half, (k + 1) * half)
            order += range((k + stride) * half, (k + stride + 1) * half)
    return torch.tensor(order)

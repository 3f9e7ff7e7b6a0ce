"""Orthogonal maps as tensor functions: reflections in compact WY form, Cayley blocks, butterflies.

Rows are multiplied from the right: `rows R`, with `rows` of shape (..., d). No function here builds
a d x d matrix, and the solves take any number of leading (batch) axes, so that those of many layers
can be done in one call.

Legend: d width of a row, r reflections, b block size, D = d / b blocks, m butterfly factors.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def compact_wy(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return `V, Y` with `H_1 H_2 ... H_r = I - Y V^T`, where `H_i = I - 2 v_i v_i^T` reflects.

    `vectors` (..., d, r) need not be normalised; a zero column stands for no reflection. `V` holds
    the unit columns and `Y = V T` with `T^{-1} = I/2 + striu(V^T V)` (Puglisi 1992; exact).
    """
    V = F.normalize(vectors, dim=-2)
    identity = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
    T_inverse = torch.triu(V.mT @ V, diagonal=1) + 0.5 * identity
    T = torch.linalg.solve_triangular(T_inverse, identity.expand_as(T_inverse), upper=True)
    return V, V @ T


def mirror(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return `V, Y` with `I - Y V^T = I - 2 V V^T`, V a basis of `vectors` (..., d, r)."""
    V, _ = torch.linalg.qr(vectors)
    return V, 2 * V


def reflect(rows: Tensor, V: Tensor, Y: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows (I - Y V^T)`, or `rows (I - V Y^T)` with `inverse`; 4 d r flop a row."""
    left, right = (V, Y) if inverse else (Y, V)
    return rows - (rows @ left.to(rows.dtype)) @ right.to(rows.dtype).mT


def block_size_of(triangle: Tensor) -> int:
    """Return the size b of skew matrices with strict upper triangles (..., b(b-1)/2)."""
    return (1 + math.isqrt(1 + 8 * triangle.shape[-1])) // 2


def skew(triangle: Tensor) -> Tensor:
    """Return skew matrices (..., b, b) with strict upper triangles `triangle` (..., b(b-1)/2)."""
    block_size = block_size_of(triangle)
    row, column = torch.triu_indices(block_size, block_size, 1, device=triangle.device)
    upper = triangle.new_zeros(*triangle.shape[:-1], block_size, block_size)
    upper[..., row, column] = triangle
    return upper - upper.mT


def triangle(matrix: Tensor) -> Tensor:
    """Return the upper triangles (..., b(b-1)/2) of the skew parts of `matrix` (..., b, b)."""
    size = matrix.shape[-1]
    row, column = torch.triu_indices(size, size, 1, device=matrix.device)
    return (0.5 * (matrix - matrix.mT))[..., row, column]


def cayley(S: Tensor) -> Tensor:
    """Return the rotations `(I - S)(I + S)^{-1}` of skew matrices `S` (..., b, b), solved exactly.

    Computed as `2 (I + S)^{-1} - I`, which is the same matrix and gives exactly `I` at `S = 0`. The
    map is its own inverse: of rotations it gives the skew matrices.
    """
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    return 2 * torch.linalg.inv(identity + S) - identity


def rotate_blocks(rows: Tensor, blocks: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows blockdiag(blocks)^T`, or untransposed if `inverse`; blocks (D, b, b).

    A single block is shared by as many parts as a row has.
    """
    if len(blocks) > 1:
        return butterfly(rows, blocks[None], inverse=inverse)
    block = (blocks[0] if inverse else blocks[0].mT).to(rows.dtype)
    return (rows.unflatten(-1, (-1, len(block))) @ block).flatten(-2)


def butterfly(rows: Tensor, factors: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows R` with `R = (B_{m-1} ... B_1 B_0)^T`, or `rows R^T` (2311.06243, eq. 6).

    `factors` (m, D, b, b) holds the blocks of each `B_i`, which couples the half-blocks k and
    k + 2^i within groups of 2^(i+1). The transpose is PEFT's convention. Rows are turned as columns
    (d, N), where pairing half-blocks moves whole rows of memory.
    """
    half, d = factors.shape[-1] // 2, rows.shape[-1]
    blocks = (factors.mT if inverse else factors).to(rows.dtype)
    columns, level = rows.reshape(-1, d).T, 0
    for next_level in reversed(range(len(factors))) if inverse else range(len(factors)):
        columns, level = _pair(columns, level, next_level, half), next_level
        columns = torch.bmm(blocks[level], columns.reshape(*blocks.shape[1:3], -1)).flatten(0, 1)
    return _pair(columns, level, 0, half).T.reshape(rows.shape)


def _pair(columns: Tensor, old: int, new: int, half: int) -> Tensor:
    """Reorder half-blocks (d, N) from the pairs of one level to those of another or of level 0.

    Level 0 pairs neighbours, which is the usual order. Between neighbouring levels the way over the
    usual order is one exchange of axes.
    """
    if old == new:
        return columns
    if min(old, new) == 0:
        axes = (2, 2**new) if new > old else (2**old, 2)
        return columns.reshape(-1, *axes, half, columns.shape[-1]).transpose(1, 2).flatten(0, 3)
    pairs = columns.reshape(-1, 2, 2 ** min(old, new), 2, half, columns.shape[-1])
    return pairs.transpose(1, 3).flatten(0, 4)


def drop_blocks(factors: Tensor, share: float) -> Tensor:
    """Return factors (m, D, b, b), one drawn at random having about `share` of its blocks at I."""
    m, D, size, _ = factors.shape
    device = factors.device
    drawn = torch.arange(m, device=device) == torch.randint(m, (), device=device)
    dropped = drawn[:, None] & (torch.rand(D, device=device) < share)
    identity = torch.eye(size, dtype=factors.dtype, device=device)
    return torch.where(dropped[..., None, None], identity, factors)

"""The group of rotations: real powers, geodesics, angles, and rotations as reflections."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rotation_power(M: Tensor, exponent: float) -> Tensor:
    """Return the real powers of rotations `M` (..., k, k): every angle times `exponent`.

    On a plane turned by t, `M = C + K` with `C = cos(t) I` symmetric and K skew, so the power is
    `cos(s t) I + K sin(s t) / sin(t)`: functions of C alone, whose eigenvectors are orthogonal
    however many angles agree. Half turns leave their planes open: eigenvectors are paired in order.
    """
    C, K = 0.5 * (M + M.mT), 0.5 * (M - M.mT)
    cosine, E = torch.linalg.eigh(C)
    angle = torch.arccos(cosine.clamp(-1, 1))
    # there sin is 0 and the plane cannot be read from K; eigh is exact to some 1e-15 in float64
    half_turn = cosine < -1 + 1e-12
    limit = torch.full_like(angle, exponent).masked_fill(half_turn, 0)
    open_angle = (angle > 0) & ~half_turn
    ratio = torch.where(open_angle, torch.sin(exponent * angle) / torch.sin(angle), limit)
    power = (E * torch.cos(exponent * angle).unsqueeze(-2)) @ E.mT
    power = power + K @ (E * ratio.unsqueeze(-2)) @ E.mT
    return power + math.sin(math.pi * exponent) * _quarter_turns(E, half_turn)


def _quarter_turns(E: Tensor, selected: Tensor) -> Tensor:
    """Return the sum of quarter turns in the planes of selected eigenvectors, paired in order."""
    pairs = E.shape[-1] // 2
    first, second = E[..., 0 : 2 * pairs : 2], E[..., 1 : 2 * pairs : 2]
    quarter = (second * selected[..., 1 : 2 * pairs : 2].unsqueeze(-2)) @ first.mT
    return quarter - quarter.mT


def rotation_angles(M: Tensor) -> Tensor:
    """Return the angles (..., ceil(k/2)), from pi to 0, of orthogonal matrices (..., k, k)."""
    return torch.linalg.eigvals(M).angle().abs().sort(dim=-1, descending=True).values[..., ::2]


def geodesic(A: Tensor, B: Tensor, t: float) -> Tensor:
    """Return `A (A^T B)^t`, on the shortest way from rotations A (t = 0) to B (t = 1)."""
    return A @ rotation_power(A.mT @ B, t)


def reflections(M: Tensor, count: int) -> Tensor:
    """Return vectors (k, count) whose reflections in order are M: `H_1 H_2 ... = M` (k, k).

    Each reflection takes one column of what is left to its axis (Cartan and Dieudonne). Where fewer
    are needed, adjacent twins that cancel fill up. `count` must be k or more, of the parity of M's
    determinant.
    """
    size = len(M)
    left, vectors = M.clone(), []
    for axis in range(size):
        u = left[:, axis].clone()
        u[axis] -= 1
        if (length := u.norm()) > 1e-12:  # else the column lies on its axis: nothing to reflect
            u = u / length
            left = left - 2 * torch.outer(u, u @ left)
            vectors.append(u)
    twin = torch.eye(size, dtype=M.dtype, device=M.device)[0]
    return torch.stack(vectors + [twin] * (count - len(vectors)), dim=1)

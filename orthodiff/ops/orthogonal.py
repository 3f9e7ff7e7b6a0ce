"""Orthogonal maps as tensor functions: reflections in compact WY form, Cayley blocks, butterflies.

Rows are multiplied from the right: `rows R`, with `rows` of shape (..., d). No function here builds
a d x d matrix, and the solves take any number of leading (batch) axes, so that those of many layers
can be done in one call.

Legend: d width of a row, r reflections, b block size, D = d / b blocks, m butterfly factors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def compact_wy(U: Tensor) -> tuple[Tensor, Tensor]:
    """Return `A, S` with `H_1 H_2 ... H_r = I - A^T S A`, H_i reflecting along column i of U.

    U (..., d, r) need not be normalised; a zero column stands for no reflection. `A` (..., r, d) is
    its transpose. `S^{-1}` (..., r, r) is the upper triangle of the Gram matrix `A A^T` with its
    diagonal halved (Puglisi 1992; exact).
    """
    A = U.mT.contiguous()
    gram = A @ A.mT
    squares = gram.diagonal(dim1=-2, dim2=-1)
    squares = torch.where(squares == 0, torch.ones_like(squares), squares)
    S_inverse = torch.triu(gram, diagonal=1) + torch.diag_embed(0.5 * squares)
    identity = torch.eye(A.shape[-2], dtype=A.dtype, device=A.device).expand_as(gram)
    return A, torch.linalg.solve_triangular(S_inverse, identity, upper=True)


def mirror(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return `A, S` with `I - A^T S A = I - 2 A^T A`, A a basis of `vectors` (..., d, r)."""
    V, _ = torch.linalg.qr(vectors)
    identity = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
    return V.mT.contiguous(), (2 * identity).expand(*V.shape[:-2], *identity.shape)


def reflect(rows: Tensor, A: Tensor, S: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows (I - A^T S A)`, or `rows (I - A^T S^T A)` with `inverse`; 4 d r flop a row.

    Under autocast in its dtype, else in that of the rows (..., d).
    """
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        rows = rows.to(torch.get_autocast_dtype(device))
    S = (S.mT if inverse else S).to(rows.dtype)
    return _Reflect.apply(rows.flatten(0, -2), A.to(rows.dtype), S).view_as(rows)


class _Reflect(torch.autograd.Function):
    """`x - x A^T S A` for rows x (N, d), keeping nothing as large as x besides x itself.

    Products are laid out for thin A (r, d): on a CPU 2 to 4 times faster than autograd's own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, S: Tensor) -> Tensor:
        """Return the reflected rows."""
        inner = x @ A.mT
        ctx.save_for_backward(x, A, S, inner)
        return torch.addmm(x, inner @ S, A, alpha=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and S."""
        x, A, S, inner = ctx.saved_tensors
        outer = gradient @ A.mT
        back = outer @ S.mT
        by_x = torch.addmm(gradient, back, A, alpha=-1) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return by_x, None, None
        by_A = torch.addmm((inner @ S).mT @ gradient, back.mT, x, beta=-1, alpha=-1)
        return by_x, by_A, -inner.mT @ outer


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


def butterfly(rows: Tensor, factors: Tensor, *, inverse: bool = False, first: int = 0) -> Tensor:
    """Return `rows R` with `R = (B_{m-1} ... B_1 B_0)^T`, or `rows R^T` (2311.06243, eq. 6).

    `factors` (m, D, b, b) holds the blocks of each `B_i`, which couples the half-blocks k and
    k + 2^i within groups of 2^(i+1); with `first` they are `B_first ... B_{first+m-1}`. The
    transpose is PEFT's convention. Rows are turned as columns (d, N), where pairing half-blocks
    moves whole rows of memory.
    """
    blocks = (factors.mT if inverse else factors).to(rows.dtype)
    columns = rows.reshape(-1, rows.shape[-1]).T
    return _turn(columns, blocks, inverse=inverse, first=first).T.reshape(rows.shape)


def fuse(factors: Tensor, *, width: int) -> tuple[Tensor, Tensor]:
    """Return the first levels of a butterfly as one block-diagonal factor, and the other levels.

    The levels 0 ... k-1 of `factors` (*batch, m, D, b, b) turn runs of b 2^(k-1) neighbours among
    themselves, so their product has blocks (*batch, d / s, s, s) of that size s, here of at most
    `width` unless b is wider. One product is applied faster than k thin ones.
    """
    *batch, m, _, b, _ = factors.shape
    levels = max(1, len([k for k in range(m) if b * 2**k <= width]))
    size = b * 2 ** (levels - 1)
    blocks = factors[..., :levels, :, :, :].movedim(-4, 0).flatten(1, -3)
    identity = torch.eye(size, dtype=factors.dtype, device=factors.device)
    runs = blocks.shape[1] * b // size
    product = _turn(identity.repeat(runs, 1), blocks, inverse=False, first=0)
    return product.reshape(*batch, -1, size, size), factors[..., levels:, :, :, :]


def rotate_fused(rows: Tensor, product: Tensor, others: Tensor, *, inverse: bool = False) -> Tensor:
    """Return what `butterfly` does, from the two parts that `fuse` makes of one layer's factors."""
    levels = len(product[0]).bit_length() - others.shape[-1].bit_length() + 1
    if not len(others):
        return rotate_blocks(rows, product, inverse=inverse)
    if inverse:
        rows = butterfly(rows, others, inverse=True, first=levels)
        return rotate_blocks(rows, product, inverse=True)
    return butterfly(rotate_blocks(rows, product), others, first=levels)


def _turn(columns: Tensor, blocks: Tensor, *, inverse: bool, first: int) -> Tensor:
    """Multiply columns (d, N) by the levels (m, D, b, b) from `first` up, or down if `inverse`."""
    half, level = blocks.shape[-1] // 2, 0
    for number in reversed(range(len(blocks))) if inverse else range(len(blocks)):
        columns, level = _pair(columns, level, first + number, half), first + number
        columns = torch.bmm(blocks[number], columns.reshape(*blocks.shape[1:3], -1)).flatten(0, 1)
    return _pair(columns, level, 0, half)


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

"""Orthogonal maps as tensor functions: reflections in compact WY form, Cayley blocks, butterflies.

Rows are multiplied from the right: `rows R`, with `rows` of shape (..., d). No function here builds
a d x d matrix, and the solves take any number of leading (batch) axes, so that those of many layers
can be done in one call.

Legend: d width of a row, r reflections, b block size, D = d / b blocks, m butterfly factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def compact_wy(U: Tensor) -> tuple[Tensor, Tensor]:
    """Return `A, P` with `H_1 H_2 ... H_r = I - A^T P`, H_i reflecting along column i of U.

    U (..., d, r) need not be normalised; a zero column stands for no reflection. `A` (..., r, d) is
    its transpose and `P = S A`, where `S^{-1}` (..., r, r) is the upper triangle of the Gram matrix
    `A A^T` with its diagonal halved (Puglisi 1992; exact).
    """
    A = _Transposed.apply(U)
    gram = A @ A.mT
    squares = gram.diagonal(dim1=-2, dim2=-1)
    # without a column to reflect along, any divisor will do: its row of A is 0 as well
    squares = torch.where(squares == 0, torch.ones_like(squares), squares)
    S_inverse = torch.triu(gram, diagonal=1) + torch.diag_embed(0.5 * squares)
    return A, torch.linalg.solve_triangular(S_inverse, A, upper=True)


def mirror(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return `A, P` with `I - A^T P = I - 2 A^T A`, A a basis of `vectors` (..., d, r)."""
    V, _ = torch.linalg.qr(vectors)
    A = V.mT.contiguous()
    return A, 2 * A


class _Transposed(torch.autograd.Function):
    """The transpose of a batch of matrices, its gradient laid out as the batch is.

    Torch would copy the gradient of each matrix into place; so it is one copy a batch.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        """Return matrices (..., r, d) in rows."""
        return matrices.mT.contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient (..., d, r) in rows."""
        return gradient.mT.contiguous()


def reflect(rows: Tensor, A: Tensor, P: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows (I - A^T P)`, or `rows (I - P^T A)` with `inverse`; 4 d r flop a row.

    Under autocast in its dtype, else in that of the rows (..., d).
    """
    rows = in_compute_dtype(rows)
    first, second = (P, A) if inverse else (A, P)
    flat = rows.flatten(0, -2)
    return _Reflect.apply(flat, first.to(rows.dtype), second.to(rows.dtype)).view_as(rows)


def compute_dtype(rows: Tensor) -> torch.dtype:
    """Return autocast's dtype where it is on, else that of the rows."""
    device = rows.device.type
    if rows.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return rows.dtype


def in_compute_dtype(rows: Tensor) -> Tensor:
    """Return the rows as autocast would take them, cast once for all products that follow."""
    return rows.to(compute_dtype(rows))


class _Reflect(torch.autograd.Function):
    """`x - (x A^T) P` for rows x (N, d), keeping nothing as large as x besides x itself.

    Products are laid out for thin A and P (r, d): on a CPU 2 to 4 times faster than autograd's own,
    and six kernels a layer and step where autograd launches twelve.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, P: Tensor) -> Tensor:
        """Return the reflected rows."""
        inner = x @ A.mT
        ctx.save_for_backward(x, A, P, inner)
        # Every reflection is I - 2 u u^T: it takes away, hence the minus before the product.
        return torch.addmm(x, inner, P, alpha=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and P."""
        x, A, P, inner = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient has to see inner as made of x
            inner = x @ A.mT
        back = gradient @ P.mT
        by_x = torch.addmm(gradient, back, A, alpha=-1) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return by_x, None, None
        return by_x, _minus_product(back, x), _minus_product(inner, gradient)


class _ProjectedReflection(torch.autograd.Function):
    """`y - (x P^T) B` for an output y (N, out), its fixed input x (N, d) and `B = A W^T`."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, P: Tensor, B: Tensor) -> Tensor:
        """Return the output of the rotated input."""
        inner = x @ P.mT
        ctx.save_for_backward(x, B, inner, P)
        return torch.addmm(y, inner, B, alpha=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of y, P and B."""
        x, B, inner, P = ctx.saved_tensors
        if torch.is_grad_enabled():
            inner = x @ P.mT
        return gradient, None, _minus_product(gradient @ B.mT, x), _minus_product(inner, gradient)


def reflect_output(output: Tensor, x: Tensor, matrix: Tensor, A: Tensor, P: Tensor) -> Tensor:
    """Return `x (I - P^T A) W^T + bias` from `output = x W^T + bias`; x (..., d) wants no gradient.

    `matrix` is W (out, d). The change is of rank r, so no gradient has to go back through W.
    """
    x = x.to(output.dtype)
    B = A.to(output.dtype) @ matrix.to(output.dtype).mT
    flat = _ProjectedReflection.apply(
        output.flatten(0, -2), x.flatten(0, -2), P.to(output.dtype), B
    )
    return flat.view_as(output)


def _minus_product(a: Tensor, b: Tensor) -> Tensor:
    """Return `-a^T b` in one kernel."""
    return torch.addmm(b[:1], a.mT, b, beta=0, alpha=-1)


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
    # `inv` would wait for the device to learn of a singular matrix; I + S never is one, as the
    # eigenvalues of S are imaginary.
    return 2 * torch.linalg.inv_ex(identity + S).inverse - identity


def rotate_blocks(rows: Tensor, blocks: Tensor, *, inverse: bool = False) -> Tensor:
    """Return `rows blockdiag(blocks)^T`, or untransposed if `inverse`; blocks (D, b, b).

    A single block is shared by as many parts as a row has.
    """
    rows = in_compute_dtype(rows)
    if len(blocks) > 1:
        own = (blocks.mT if inverse else blocks).to(rows.dtype)
        return _rotate_as_columns(rows, [own], inverse=inverse, first=0)
    block = (blocks[0] if inverse else blocks[0].mT).to(rows.dtype)
    return (rows.unflatten(-1, (-1, len(block))) @ block).flatten(-2)


def butterfly(rows: Tensor, factors: Tensor, *, inverse: bool = False, first: int = 0) -> Tensor:
    """Return `rows R` with `R = (B_{m-1} ... B_1 B_0)^T`, or `rows R^T` (arXiv:2311.06243, eq. 6).

    `factors` (m, D, b, b) holds the blocks of each `B_i`, which couples the half-blocks k and
    k + 2^i within groups of 2^(i+1); with `first` they are `B_first ... B_{first+m-1}`. The
    transpose is PEFT's convention. Rows are rotated as columns (d, N), where pairing half-blocks
    moves whole rows of memory.
    """
    rows = in_compute_dtype(rows)
    blocks = (factors.mT if inverse else factors).to(rows.dtype)
    return _rotate_as_columns(rows, blocks.unbind(), inverse=inverse, first=first)


def fuse(factors: Tensor, *, width: int) -> tuple[Tensor, Tensor]:
    """Return the first levels of a butterfly as one block-diagonal factor, and the other levels.

    The levels 0 ... k-1 of `factors` (*batch, m, D, b, b) rotate runs of b 2^(k-1) neighbours among
    themselves, so their product has blocks (*batch, d / s, s, s) of that size s, here of at most
    `width` unless b is wider. One product is applied faster than k thin ones.
    """
    *batch, m, _, b, _ = factors.shape
    levels = max(1, len([k for k in range(m) if b * 2**k <= width]))
    size = b * 2 ** (levels - 1)
    blocks = factors[..., :levels, :, :, :].movedim(-4, 0).flatten(1, -3)
    identity = torch.eye(size, dtype=factors.dtype, device=factors.device)
    runs = blocks.shape[1] * b // size
    product = _rotate_columns(identity.repeat(runs, 1), blocks.unbind(), inverse=False, first=0)
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


def _rotate_as_columns(
    rows: Tensor, blocks: Sequence[Tensor], *, inverse: bool, first: int
) -> Tensor:
    """Multiply rows (..., d) as columns by the levels (D, b, b)."""
    columns = rows.reshape(-1, rows.shape[-1]).T
    return _rotate_columns(columns, blocks, inverse=inverse, first=first).T.reshape(rows.shape)


def _rotate_columns(
    columns: Tensor, blocks: Sequence[Tensor], *, inverse: bool, first: int
) -> Tensor:
    """Multiply columns (d, N) by the levels (D, b, b) from `first` up, or down if `inverse`."""
    half, level = blocks[0].shape[-1] // 2, 0
    for number in reversed(range(len(blocks))) if inverse else range(len(blocks)):
        columns, level = _pair(columns, level, first + number, half), first + number
        level_blocks = blocks[number]
        columns = torch.bmm(level_blocks, columns.reshape(*level_blocks.shape[:2], -1))
        columns = columns.flatten(0, 1)
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

"""The tensor functions against their definitions, in float64."""

from __future__ import annotations

import pytest
import torch

from orthodiff.ops.orthogonal import (
    butterfly,
    cayley,
    compact_wy,
    fuse,
    mirror,
    reflect,
    rotate_fused,
    skew,
    triangle,
)
from tests import reference

# Products of a few dozen orthogonal float64 steps round to about 1e-15.
EXACT = {"rtol": 0.0, "atol": 1e-13}


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rank", [1, 2, 7, 20])
def test_compact_wy_is_the_product_of_reflections(rank: int) -> None:
    U = randn(20, rank)
    R = reflect(torch.eye(20, dtype=torch.float64), *compact_wy(U))
    torch.testing.assert_close(R, reference.reflections(U), **EXACT)
    assert torch.linalg.det(R).item() == pytest.approx((-1) ** rank, abs=1e-12)


def test_reflections_ignore_the_length_of_a_vector() -> None:
    U, identity = randn(12, 4), torch.eye(12, dtype=torch.float64)
    R = reflect(identity, *compact_wy(U))
    torch.testing.assert_close(reflect(identity, *compact_wy(1e-3 * U)), R, **EXACT)


def test_a_zero_vector_is_no_reflection() -> None:
    U = randn(12, 3)
    U[:, 1] = 0
    identity = torch.eye(12, dtype=torch.float64)
    R = reflect(identity, *compact_wy(U))
    torch.testing.assert_close(R, reference.reflections(U[:, [0, 2]]), **EXACT)


def test_adjacent_twins_cancel_and_distant_ones_do_not() -> None:
    half, identity = randn(12, 2), torch.eye(12, dtype=torch.float64)
    adjacent = reflect(identity, *compact_wy(half.repeat_interleave(2, dim=1)))
    torch.testing.assert_close(adjacent, identity, **EXACT)
    distant = reflect(identity, *compact_wy(torch.cat([half, half], dim=1)))
    assert (distant - identity).abs().max() > 1e-2


def test_mirror_is_the_product_of_orthogonalised_reflections() -> None:
    U = randn(16, 6)
    R = reflect(torch.eye(16, dtype=torch.float64), *mirror(U))
    torch.testing.assert_close(R, reference.reflections(U, strict=True), **EXACT)


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 30.0])
def test_cayley_is_exact_however_large_the_generator(size: float) -> None:
    S = skew(size * randn(5, 28))
    identity = torch.eye(8, dtype=torch.float64)
    expected = torch.linalg.solve(identity + S, identity - S, left=False)
    torch.testing.assert_close(cayley(S), expected, **EXACT)
    R = cayley(S.float())
    # 28 numbers of size 30 leave (I + S) with a condition near 100: float32 keeps 1e-5.
    torch.testing.assert_close(R @ R.mT, identity.float().expand_as(R), rtol=0, atol=1e-5)
    assert size or torch.equal(cayley(S), identity.expand_as(S))


def test_triangle_undoes_skew_bit_for_bit() -> None:
    numbers = torch.randn(3, 7, 28)
    assert torch.equal(triangle(skew(numbers)), numbers)
    square = torch.randn(4, 8, 8)
    torch.testing.assert_close(skew(triangle(square)), 0.5 * (square - square.mT))


@pytest.mark.parametrize(("d", "b", "m"), [(24, 8, 1), (24, 4, 2), (32, 4, 4), (48, 6, 3)])
def test_butterfly_turns_rows_back_and_forth(d: int, b: int, m: int) -> None:
    blocks = cayley(skew(randn(m, d // b, b * (b - 1) // 2)))
    rows = randn(2, 3, d)
    turned = butterfly(rows, blocks)
    torch.testing.assert_close(butterfly(turned, blocks, inverse=True), rows, **EXACT)
    torch.testing.assert_close(turned.norm(dim=-1), rows.norm(dim=-1), **EXACT)


def test_solves_of_many_layers_are_the_solves_of_each() -> None:
    U, numbers = randn(3, 12, 4), randn(3, 2, 6, 1)
    for i in range(3):
        for together, alone in zip(compact_wy(U), compact_wy(U[i]), strict=True):
            torch.testing.assert_close(together[i], alone, **EXACT)
        together = cayley(skew(numbers))[i]
        torch.testing.assert_close(together, cayley(skew(numbers[i])), **EXACT)


@pytest.mark.parametrize("function", [compact_wy, mirror])
def test_reflections_have_right_gradients(function: object) -> None:
    U = randn(6, 4).requires_grad_()
    identity = torch.eye(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda u: reflect(identity, *function(u)), U)  # type: ignore[operator]


def test_butterflies_have_right_gradients() -> None:
    numbers = randn(2, 4, 1).requires_grad_()
    rows = randn(3, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda n, x: butterfly(x, cayley(skew(n))), (numbers, rows))


@pytest.mark.parametrize("factors", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("width", [2, 8, 16, 64])
def test_a_fused_butterfly_turns_alike(factors: int, width: int) -> None:
    blocks = cayley(skew(randn(3, factors, 16, 6)))
    rows = randn(5, 64)
    products, others = fuse(blocks, width=width)
    assert products.shape[-1] <= max(width, 4)
    for i, inverse in [(0, False), (2, True)]:
        fused = rotate_fused(rows, products[i], others[i], inverse=inverse)
        torch.testing.assert_close(fused, butterfly(rows, blocks[i], inverse=inverse), **EXACT)

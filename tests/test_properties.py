"""What holds for adapters of any method, size, strength and place: the group's laws in float64."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.layers.rotated import RotatedLayer

# Products of dozens of float64 rotations, and generators of size a hundred that come from them.
EXACT = {"rtol": 0.0, "atol": 1e-9}
STRENGTHS = st.floats(-2, 2)
few = settings(max_examples=40, deadline=None, derandomize=True)


def fitting(width: int) -> st.SearchStrategy[Method]:
    """Any method that fits a layer of this width, HRA with at most a third of it as its rank."""
    sizes = [b for b in range(2, width + 1) if width % b == 0]
    butterflies = [(b, m) for b in sizes for m in (1, 2, 3) if b % 2 == width % (b << m - 1) == 0]
    return st.one_of(hra(width), oft(sizes), st.sampled_from(butterflies).map(boft))


def hra(width: int) -> st.SearchStrategy[Method]:
    ranks = st.integers(1, width // 6).map(lambda half: 2 * half)
    return st.builds(orthodiff.HRA, rank=ranks, strict=st.booleans())


def oft(sizes: list[int]) -> st.SearchStrategy[Method]:
    return st.builds(orthodiff.OFT, block_size=st.sampled_from(sizes), block_share=st.booleans())


def boft(settings: tuple[int, int]) -> Method:
    return orthodiff.BOFT(block_size=settings[0], factors=settings[1])


@st.composite
def methods(draw: st.DrawFn, count: int) -> tuple[int, list[Method]]:
    """A width, and methods that fit it."""
    width = draw(st.sampled_from([6, 8, 12, 16, 24]))
    return width, [draw(fitting(width)) for _ in range(count)]


def adapter_of(method: Method, width: int, seed: int = 0) -> orthodiff.Adapter:
    """Return a moved adapter of one float64 layer (5, width)."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, 5, dtype=torch.float64))
    adapter = orthodiff.attach(model, method, targets="0", generator=generator)
    for parameter in adapter.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.double() + 0.5 * noise
    return adapter


def rotation(adapter: orthodiff.Adapter, strength: float = 1.0) -> Tensor:
    """Return the dense R (width, width) at `strength`."""
    adapter.strength = strength
    (layer,) = adapter.layers.values()
    assert isinstance(layer, RotatedLayer)
    identity = torch.eye(layer.width, dtype=torch.float64)
    return adapter.method.rotate(identity, layer.factors()).detach()


@few
@given(drawn=methods(3))
def test_composition_is_associative(drawn: tuple[int, list[Method]]) -> None:
    width, (a, b, c) = drawn
    turns = [rotation(adapter_of(method, width, i)) for i, method in enumerate((a, b, c))]
    product = turns[0] @ turns[1] @ turns[2]

    def fresh() -> list[orthodiff.Adapter]:
        return [adapter_of(method, width, i) for i, method in enumerate((a, b, c))]

    first, second, third = fresh()
    left = orthodiff.compose(orthodiff.compose(first, second), third)
    torch.testing.assert_close(rotation(left), product, **EXACT)
    first, second, third = fresh()
    right = orthodiff.compose(first, orthodiff.compose(second, third))
    torch.testing.assert_close(rotation(right), product, **EXACT)


@few
@given(drawn=methods(1), strength=STRENGTHS)
def test_an_adapter_and_its_inverse_are_the_identity(
    drawn: tuple[int, list[Method]], strength: float
) -> None:
    width, (method,) = drawn
    identity = torch.eye(width, dtype=torch.float64)
    adapter, other = adapter_of(method, width), adapter_of(method, width)
    adapter.strength = other.strength = strength
    back = other.inverse()
    torch.testing.assert_close(rotation(orthodiff.compose(adapter, back)), identity, **EXACT)


@few
@given(drawn=methods(1), t=st.floats(0, 1))
def test_the_way_between_two_is_orthogonal_and_has_them_at_its_ends(
    drawn: tuple[int, list[Method]], t: float
) -> None:
    width, (method,) = drawn
    for at in (0.0, t, 1.0):
        way = orthodiff.interpolate(adapter_of(method, width, 1), adapter_of(method, width, 2), at)
        R = rotation(way)
        torch.testing.assert_close(R @ R.T, torch.eye(width, dtype=torch.float64), **EXACT)
        if at in (0, 1):
            end = rotation(adapter_of(method, width, 2 if at else 1))
            torch.testing.assert_close(R, end, **EXACT)


@few
@given(drawn=methods(1), a=STRENGTHS, b=STRENGTHS)
def test_strengths_add_up_where_nothing_has_to_commute(
    drawn: tuple[int, list[Method]], a: float, b: float
) -> None:
    """R(a) R(b) = R(a + b); a butterfly turns each of its factors so, one after the other."""
    width, (method,) = drawn
    adapter = adapter_of(method, width)
    R = rotation(adapter, a)
    if isinstance(method, orthodiff.BOFT) and method.factors > 1:
        (triangles,) = (p.detach() for p in adapter.parameters())
        expected = torch.eye(width, dtype=torch.float64)
        for level in range(method.factors):
            others = torch.zeros_like(triangles)
            others[level] = triangles[level]
            alone = adapter_of(method, width)
            alone.load_state_dict(dict.fromkeys(alone.state_dict(), others))
            expected = expected @ rotation(alone, a)
        torch.testing.assert_close(R, expected, **EXACT)
    else:
        torch.testing.assert_close(R @ rotation(adapter, b), rotation(adapter, a + b), **EXACT)


@few
@given(drawn=methods(1), rows=st.integers(1, 9), through=st.booleans())
def test_gradients_of_the_fast_path_are_right(
    drawn: tuple[int, list[Method]], rows: int, through: bool
) -> None:
    """By finite differences, with and without a gradient of the input."""
    width, (method,) = drawn
    adapter = adapter_of(method, width)
    x = torch.randn(rows, width, dtype=torch.float64, requires_grad=through)
    names = list(adapter.named_parameters())

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(
            adapter.model, dict(zip(names, parameters, strict=True)), (x,)
        )

    assert torch.autograd.gradcheck(run, (x, *adapter.parameters()), fast_mode=True)

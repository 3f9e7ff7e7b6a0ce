"""Products, inverses and ways between adapters, against dense float64 matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import orthodiff
from orthodiff.adapters import Chain, Method
from orthodiff.adapters.adapter import install
from orthodiff.adapters.hra import OddHRA
from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.errors import UserError
from orthodiff.ops.rotations import geodesic, reflections
from tests import laws
from tests.laws import CASES, ROTATIONS, WIDTH, Stack
from tests.test_adapters import over

SECOND = {**ROTATIONS, "hra": orthodiff.HRA(rank=6)}
# Products of dozens of float64 rotations, and generators of size ten that come from them.
EXACT = {"rtol": 0.0, "atol": 1e-11}


def adapter_of(
    method: Method, seed: int, targets: tuple[str, ...] = ("first", "second")
) -> orthodiff.Adapter:
    generator = torch.Generator().manual_seed(seed)
    adapter = orthodiff.attach(Stack(torch.float64), method, targets=targets, generator=generator)
    for parameter in adapter.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.double() + 0.3 * noise
    return adapter


def rotation(adapter: orthodiff.Adapter, name: str = "first") -> Tensor:
    """Return R of one layer at the adapter's strength."""
    layer = adapter.layers[name]
    assert isinstance(layer, RotatedLayer)
    return adapter.method.rotate(torch.eye(WIDTH, dtype=torch.float64), layer.factors()).detach()


def weight(adapter: orthodiff.Adapter, name: str) -> Tensor:
    return adapter.layers[name].adapted_weight()


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND.keys())
@over({name: ROTATIONS[name] for name in ("hra", "hra-strict", "oft", "boft-scaled")})
def test_composition_applies_the_first_then_the_second(method: Method, second: Method) -> None:
    a, b = adapter_of(method, 1), adapter_of(second, 2)
    expected = {name: weight(a, name) @ rotation(b, name) for name in a.layers}
    for name, layer in b.layers.items():
        assert isinstance(layer, RotatedLayer)
        if (scale := layer.scale()) is not None:
            expected[name] = scale.detach() * expected[name]
    both = orthodiff.compose(a, b)
    assert both.model is a.model
    for name in ("first", "second"):
        torch.testing.assert_close(weight(both, name), expected[name], **EXACT)
    if isinstance(method, orthodiff.HRA) and isinstance(second, orthodiff.HRA):
        assert both.method == orthodiff.HRA(rank=method.rank + second.rank)
    elif method == second == CASES["oft"]:
        assert both.method == method
    else:
        assert isinstance(both.method, Chain)


@over(ROTATIONS)
def test_composing_with_the_inverse_gives_the_base_back(method: Method) -> None:
    x = laws.inputs(5, torch.float64)
    back = orthodiff.compose(adapter_of(method, 1), adapter_of(method, 1).inverse())
    torch.testing.assert_close(back.model(x), Stack(torch.float64)(x), **EXACT)
    R = rotation(adapter_of(method, 1))
    torch.testing.assert_close(rotation(adapter_of(method, 1).inverse()), R.T, **EXACT)
    twice = adapter_of(method, 1).inverse().inverse()
    torch.testing.assert_close(rotation(twice), R, **EXACT)


@over(ROTATIONS)
def test_interpolation_is_orthogonal_from_one_to_the_other(method: Method) -> None:
    other = orthodiff.HRA(rank=6) if isinstance(method, orthodiff.HRA) else method
    identity = torch.eye(WIDTH, dtype=torch.float64)
    turns = []
    for t in (0.0, 0.25, 0.5, 1.0):
        R = rotation(orthodiff.interpolate(adapter_of(method, 1), adapter_of(other, 2), t))
        torch.testing.assert_close(R @ R.T, identity, **EXACT)
        turns.append(R)
    torch.testing.assert_close(turns[0], rotation(adapter_of(method, 1)), rtol=0, atol=1e-9)
    torch.testing.assert_close(turns[-1], rotation(adapter_of(other, 2)), rtol=0, atol=1e-9)
    if not isinstance(method, orthodiff.BOFT) or method.factors == 1:
        # Equal steps along a geodesic are equal rotations.
        step = turns[0].T @ turns[1]
        torch.testing.assert_close(turns[2], turns[1] @ step, rtol=0, atol=1e-9)


@over({name: ROTATIONS[name] for name in ("hra", "hra-strict", "oft-shared-constrained", "boft")})
def test_strength_goes_into_a_composition(method: Method) -> None:
    a, b = adapter_of(method, 1), adapter_of(orthodiff.OFT(block_size=4), 2)
    a.strength = 0.5
    expected = weight(a, "second") @ rotation(b, "second")
    both = orthodiff.compose(a, b)
    assert both.strength == 1
    torch.testing.assert_close(weight(both, "second"), expected, **EXACT)


def test_layers_of_either_are_in_the_product() -> None:
    a = adapter_of(orthodiff.HRA(rank=4), 1, ("first",))
    b = adapter_of(CASES["oft"], 2, ("second",))
    first, second = weight(a, "first"), weight(b, "second")
    both = orthodiff.compose(a, b)
    assert list(both.layers) == ["first", "second"]
    torch.testing.assert_close(weight(both, "first"), first, **EXACT)
    torch.testing.assert_close(weight(both, "second"), second, **EXACT)


def test_adapters_of_one_model_are_combined_one_after_the_other() -> None:
    model, x = Stack(), laws.inputs(5)
    a = orthodiff.attach(model, orthodiff.HRA(rank=4), targets="*")
    a.detach()
    b = orthodiff.attach(model, CASES["boft"], targets="*")
    for parameter in a.parameters() + b.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    b.merge()
    both = orthodiff.compose(a, b)
    assert both.attached
    assert not b.attached
    apart = model(x)
    both.merge()
    torch.testing.assert_close(model(x), apart, rtol=0, atol=5e-6)
    both.detach()
    a.attach()
    with pytest.raises(UserError, match="adapted already"):
        b.attach()
    a.detach()
    assert torch.equal(model(x), Stack()(x))


def test_a_chain_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    both = orthodiff.compose(adapter_of(CASES["boft"], 1).inverse(), adapter_of(CASES["hra"], 2))
    for parameter in both.parameters():
        parameter.data = parameter.data.float()
    both.model.float()
    both.save(tmp_path / "chain")
    model = Stack()
    loaded = orthodiff.load(model, tmp_path / "chain")
    assert loaded.method == both.method
    assert torch.equal(model(laws.inputs(5)), both.model(laws.inputs(5)))
    assert len(loaded.rotation_angles()["first"]) > 4
    loaded.strength = 0
    torch.testing.assert_close(model(laws.inputs(5)), Stack()(laws.inputs(5)), rtol=0, atol=5e-6)
    laws.moves_nothing_else(loaded.method)


def test_more_reflections_than_directions_become_a_chain() -> None:
    a, b = (adapter_of(orthodiff.HRA(rank=18), seed, ("first",)) for seed in (1, 2))
    expected = rotation(a) @ rotation(b)
    both = orthodiff.compose(a, b)
    torch.testing.assert_close(rotation(both), expected, **EXACT)


def test_an_odd_chain_cannot_leave_a_layer_alone() -> None:
    odd = OddHRA(rank=7)
    a = adapter_of(orthodiff.HRA(rank=8), 1)
    model = Stack()
    layers = {"first": odd.wrap(model.first, {"hra_u": torch.randn(WIDTH, 7)})}
    with pytest.raises(UserError, match="Only one of the two adapters covers this layer"):
        orthodiff.compose(install(model, odd, layers), a)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (CASES["lora"], CASES["hra"], "^lora adapters add to the weights, so they cannot"),
        (CASES["hra"], CASES["lora"], "cannot be combined"),
        (CASES["hra"], CASES["oft"], "There is no way from HRA"),
        (CASES["oft"], orthodiff.OFT(block_size=4), "There is no way from OFT"),
        (orthodiff.HRA(rank=16), orthodiff.HRA(rank=18), "`rank` is 34"),
    ],
)
def test_what_cannot_be_combined_is_left_alone(
    first: Method, second: Method, sentence: str
) -> None:
    a, b = laws.adapted(first)[1], laws.adapted(second)[1]
    with pytest.raises(UserError, match=sentence):
        orthodiff.interpolate(a, b, 0.5)
    assert a.attached
    assert b.attached


def test_different_models_are_refused() -> None:
    a = laws.adapted(CASES["hra"])[1]
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    with pytest.raises(UserError, match="different models"):
        orthodiff.compose(a, orthodiff.attach(model, CASES["hra"], targets="*"))


def test_reflections_and_geodesics_of_dense_rotations() -> None:
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(6, 6, generator=generator).double() for _ in range(2)]
    A, B = (torch.linalg.matrix_exp(m - m.T) for m in random)
    identity = torch.eye(6, dtype=torch.float64)
    for M in (A, identity, -identity, torch.diag(A.new_tensor([1, -1, 1, -1, 1, -1]))):
        product = identity
        for u in reflections(M, 6 + int(torch.linalg.det(M) < 0)).T:
            product = product - 2 * torch.outer(product @ u, u)
        torch.testing.assert_close(product, M, **EXACT)
    torch.testing.assert_close(geodesic(A, B, 1.0), B, **EXACT)
    half = geodesic(A, B, 0.5)
    torch.testing.assert_close(half @ A.T @ half, B, **EXACT)

"""Every method satisfies the laws; settings that do not fit are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import orthodiff
from orthodiff.adapters import HRA, Method
from orthodiff.adapters.adapter import install
from orthodiff.adapters.layers.solve import solve
from orthodiff.errors import UserError
from tests import laws, reference
from tests.laws import AT_IDENTITY, CASES, ROTATIONS


def over(cases: dict[str, Method]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", cases.values(), ids=cases.keys())


def test_every_method_is_under_the_laws() -> None:
    assert {method.name for method in CASES.values()} == set(orthodiff.ADAPTERS)


# float64: a few dozen roundings of 1e-16 in outputs of size one. float32: likewise of 6e-8.
@over(AT_IDENTITY)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_starts_at_the_identity(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    laws.starts_at_the_identity(method, dtype, tolerance)


def test_strict_reflections_start_away_from_the_identity() -> None:
    x = laws.inputs(8, torch.float64)
    model, _ = laws.adapted(CASES["hra-strict"], dtype=torch.float64, moved=False)
    assert (model(x) - laws.Stack(torch.float64)(x)).norm() > 0.1 * model(x).norm()


@over(ROTATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])
def test_rotates(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    laws.rotates(method, dtype, tolerance)


@over(CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
def test_merges(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    laws.merges(method, dtype, tolerance)


@over(CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_unmerges(method: Method, dtype: torch.dtype) -> None:
    laws.unmerges(method, dtype)


@over(CASES)
@pytest.mark.parametrize("rows", [3, 100])
def test_matches_the_naive_twin(method: Method, rows: int) -> None:
    laws.matches_the_naive_twin(method, rows, 1e-13)


@pytest.mark.parametrize(
    ("name", "kind"),
    # A convolution's shape is no matter to a method, but to the layer around all rotations.
    [("hra", kind) for kind in laws.CONVOLUTIONS]
    + [("lora", kind) for kind in laws.CONVOLUTIONS if kind not in ("grouped", "circular")]
    + [(name, "skipping") for name in CASES if name not in ("hra", "lora")],
)
def test_adapts_convolutions(name: str, kind: str) -> None:
    method = CASES[name]
    laws.adapts_convolutions(method, laws.CONVOLUTIONS[kind], 1e-13)


@over(CASES)
def test_moves_nothing_else(method: Method) -> None:
    laws.moves_nothing_else(method)


@over(CASES)
def test_saves(method: Method, tmp_path: Path) -> None:
    laws.saves(method, tmp_path)


@over(CASES)
def test_repeats(method: Method) -> None:
    laws.repeats(method)


@over(CASES)
def test_copies(method: Method) -> None:
    laws.copies(method)


# Three roundings to 8 (bfloat16) or 11 (float16) bits of values up to 4, times a spread of 3.
@over(CASES)
@pytest.mark.parametrize("autocast", [False, True], ids=["whole", "autocast"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.08), (torch.float16, 0.01)])
def test_works_in_half_precision(
    method: Method, dtype: torch.dtype, autocast: bool, tolerance: float
) -> None:
    laws.works_in(method, dtype, autocast=autocast, tolerance=tolerance)


@over(ROTATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_follows_the_rotation_group(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    laws.follows_the_rotation_group(method, dtype, tolerance)


@over(CASES)
def test_merges_at_every_strength(method: Method) -> None:
    laws.merges_at_every_strength(method, 1e-13)


@over(ROTATIONS)
def test_angles_are_those_of_the_dense_rotation(method: Method) -> None:
    _, adapter = laws.adapted(method, dtype=torch.float64)
    for name, angles in adapter.rotation_angles().items():
        assert angles.min() >= 0
        assert (angles.diff() <= 0).all()
        if isinstance(method, orthodiff.BOFT) and method.factors > 1:
            continue
        parameters = adapter.layers[name].adapter_parameters()
        dense = (
            torch.linalg.eigvals(reference.rotation(method, parameters, laws.WIDTH)).angle().abs()
        )
        if isinstance(method, orthodiff.OFT) and method.block_share:
            angles = angles.repeat_interleave(laws.WIDTH // method.block_size)
        wanted = dense.sort(descending=True).values[::2][: len(angles)]
        torch.testing.assert_close(angles, wanted.detach(), rtol=0, atol=1e-7)


DROPPING: dict[str, Method] = {
    "oft": orthodiff.OFT(block_size=4, dropout=0.5),
    "boft": orthodiff.BOFT(block_size=4, factors=3, dropout=0.5),
}


@over(DROPPING)
def test_dropout_leaves_out_blocks_in_training_only(method: Method) -> None:
    model, adapter = laws.adapted(method)
    rows = laws.inputs(4)
    torch.manual_seed(0)
    first, second = model(rows), model(rows)
    assert not torch.equal(first, second)
    first.sum().backward()
    model.eval()
    apart = model(rows)
    adapter.merge()
    torch.testing.assert_close(model(rows), apart, rtol=0, atol=5e-6)
    factors = solve(method, adapter.layers["first"].adapter_parameters())
    (dropped,) = method.drop(factors)
    left = (dropped == torch.eye(4)).all(-1).all(-1)
    assert left.any()
    assert not left.all()
    assert torch.equal(dropped[~left], factors[0][~left])
    R = method.rotate(torch.eye(laws.WIDTH), (dropped,))
    torch.testing.assert_close(R @ R.T, torch.eye(laws.WIDTH), rtol=0, atol=3e-6)


def test_an_odd_rank_has_no_strength_in_between() -> None:
    model = laws.Stack()
    odd = HRA.from_peft({"r": 3}, {})
    layer = odd.wrap(model.first, {"hra_u": torch.randn(laws.WIDTH, 3)})
    adapter = install(model, odd, {"first": layer})
    with pytest.raises(
        UserError, match=r"`strength` is 0.5, but an odd .* \(3\) has determinant -1"
    ):
        adapter.strength = 0.5
    adapter.strength = 0
    expected = laws.Stack()(laws.inputs(3))
    torch.testing.assert_close(model(laws.inputs(3)), expected, rtol=0, atol=2e-6)


def test_strength_must_be_finite_and_lora_has_no_angles() -> None:
    _, adapter = laws.adapted(CASES["lora"])
    with pytest.raises(UserError, match="`strength` is nan"):
        adapter.strength = float("nan")
    with pytest.raises(UserError, match="no angles"):
        adapter.rotation_angles()


def test_regularizer_is_the_weighted_distance_from_orthogonal_reflections() -> None:
    _, adapter = laws.adapted(orthodiff.HRA(rank=4, regularization=0.5))
    expected = 0.0
    for parameter in adapter.parameters():
        V = parameter.detach() / parameter.detach().norm(dim=0)
        expected += 0.5 * float((torch.eye(4) - V.T @ V).square().sum())
    penalty = adapter.regularizer()
    penalty.backward()
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())


@over(CASES)
def test_regularizer_is_zero_unless_switched_on(method: Method) -> None:
    assert laws.adapted(method)[1].regularizer().item() == 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: orthodiff.HRA(rank=7), "`rank` is 7, but .* come in pairs. Use an even .* 8"),
        (lambda: orthodiff.HRA(rank=0), "`rank` is 0, but it must be a whole number"),
        (lambda: orthodiff.HRA(rank=True), "`rank` is True, but it must be a whole number"),
        (lambda: orthodiff.HRA(regularization=-1), "`regularization` is -1"),
        (lambda: orthodiff.HRA(regularization=float("nan")), "`regularization` is nan"),
        (
            lambda: orthodiff.OFT(block_size=1),
            "`block_size` is 1, but it must be a whole .* at least 2",
        ),
        (lambda: orthodiff.BOFT(block_size=5), "`block_size` is 5, .* must be even. .* 6"),
        (lambda: orthodiff.BOFT(factors=0), "`factors` is 0"),
        (lambda: orthodiff.OFT(eps=0), "`eps` is 0, but it must be above 0"),
        (lambda: orthodiff.OFT(dropout=1), "`dropout` is 1, but"),
        (lambda: orthodiff.OFT(block_share=True, dropout=0.1), "with `block_share` all are one"),
        (lambda: orthodiff.BOFT(blocks=0), "`blocks` is 0"),
        (lambda: orthodiff.LoRA(rank=-1), "`rank` is -1"),
        (lambda: orthodiff.LoRA(alpha=0), "`alpha` is 0"),
    ],
)
def test_refuses_settings_with_a_remedy(make: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (orthodiff.HRA(rank=40), "Layer first: `rank` is 40, .* 32 wide.* at most 32"),
        (orthodiff.OFT(block_size=12), "Layer first: .* width 32. Use one of 2, 4, 8, 16, 32"),
        (
            orthodiff.BOFT(block_size=8, factors=4),
            "Layer first: .* = 64 must divide .* 32. Use at most 3 factors or .* size of 2, 4",
        ),
        (orthodiff.OFT(blocks=5), "Layer first: `blocks` is 5, .* Use one of 2, 4, 8, 16"),
        (
            orthodiff.BOFT(blocks=6, factors=2),
            "`blocks` is 6 .* Use 2 or 4 or 8 or 16",
        ),
        (orthodiff.BOFT(block_size=6, factors=2), "Layer first: .* size of 2, 4, 8, 16"),
    ],
)
def test_refuses_what_does_not_fit_a_layer(method: Method, sentence: str) -> None:
    model = laws.Stack()
    with pytest.raises(UserError, match=sentence):
        orthodiff.attach(model, method, targets="first")
    assert type(model.first) is torch.nn.Linear
    assert model.first.weight.requires_grad


@pytest.mark.parametrize(("width", "most"), [(320, 4), (640, 5), (768, 6), (1280, 6)])
def test_butterflies_reach_as_far_as_the_papers_say(width: int, most: int) -> None:
    assert orthodiff.BOFT(block_size=8, factors=most).shapes(width, 1)
    with pytest.raises(UserError, match=f"at most {most} factors"):
        orthodiff.BOFT(block_size=8, factors=most + 1).shapes(width, 1)


@pytest.mark.parametrize("cls", orthodiff.ADAPTERS.values(), ids=orthodiff.ADAPTERS.keys())
def test_settings_make_a_form(cls: type[Method]) -> None:
    assert cls().title
    for field in dataclasses.fields(cls):
        assert field.metadata["help"].endswith(".")
        assert field.default is not dataclasses.MISSING


@over(ROTATIONS)
def test_factors_keep_their_precision_under_autocast(method: Method) -> None:
    """BOFT's levels are multiplied into one: in bfloat16 each product would round."""
    model, _ = laws.adapted(method)
    exact = model.first.factors()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.first.factors()
        model(laws.inputs(4))
        shared = model.first.factors()
    for one, other, third in zip(exact, rounded, shared, strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one, third, atol=1e-6)  # solved in one batch with the other layer


def test_layers_forget_what_a_fused_step_left_unmarked() -> None:
    model, adapter = laws.adapted(CASES["hra"])
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1, fused=True)
    model(laws.inputs(4)).sum().backward()
    model(laws.inputs(4))  # solved for a backward pass that never comes
    optimizer.step()
    adapter.changed()
    with torch.no_grad():
        kept, fresh = model.first(laws.inputs(4)), model.first.adapted_weight()
    expected = torch.nn.functional.linear(laws.inputs(4), fresh, model.first.bias)
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)  # a step moves outputs by 1

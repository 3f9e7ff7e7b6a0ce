"""What every adapter must satisfy. A new method joins by one line in `CASES`."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.layers.solve import solve
from tests import reference

CASES: dict[str, Method] = {
    "hra": orthodiff.HRA(rank=4),
    "hra-strict": orthodiff.HRA(rank=4, strict=True),
    "oft": orthodiff.OFT(block_size=8),
    "oft-shared-constrained": orthodiff.OFT(block_size=8, block_share=True, eps=0.7),
    "boft": orthodiff.BOFT(block_size=4, factors=3),
    "boft-blocks": orthodiff.BOFT(blocks=4, factors=2),
    "boft-one-factor": orthodiff.BOFT(block_size=8, factors=1),
    "boft-scaled": orthodiff.BOFT(block_size=8, factors=2, output_scale=True),
    "lora": orthodiff.LoRA(rank=4, alpha=6),
}
ROTATIONS = {name: m for name, m in CASES.items() if not isinstance(m, orthodiff.LoRA)}
AT_IDENTITY = {name: m for name, m in CASES.items() if name != "hra-strict"}

WIDTH, OUT = 32, 24


class Stack(nn.Module):
    """Two linear layers: one is run on few rows, the other on many."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, OUT, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=WIDTH**-0.5, generator=generator)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, OUT) for x (rows, WIDTH)."""
        return self.second(torch.tanh(self.first(x)))


def inputs(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return fixed random rows."""
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(2)).to(dtype)


def adapted(
    method: Method, *, dtype: torch.dtype = torch.float32, moved: bool = True
) -> tuple[Stack, orthodiff.Adapter]:
    """Return a stack with an adapter, at random parameters unless `moved` is False."""
    model = Stack(dtype)
    generator = torch.Generator().manual_seed(3)
    adapter = orthodiff.attach(model, method, targets=("first", "second"), generator=generator)
    for parameter in adapter.parameters():
        parameter.data = parameter.data.to(dtype if dtype == torch.float64 else torch.float32)
        if moved:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.3 * noise.to(parameter.dtype)
    return model, adapter


def starts_at_the_identity(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    """A fresh adapter leaves the model's outputs as they are."""
    for rows in (3, 100):
        x = inputs(rows, dtype)
        model, _ = adapted(method, dtype=dtype, moved=False)
        torch.testing.assert_close(model(x), Stack(dtype)(x), rtol=0, atol=tolerance)


def rotates(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    """R^T R = I after random updates, and `inverse` is the transpose."""
    _, adapter = adapted(method, dtype=dtype)
    identity = torch.eye(WIDTH, dtype=dtype)
    for layer in adapter.layers.values():
        factors = solve(method, layer.adapter_parameters())
        R = method.rotate(identity, factors)
        torch.testing.assert_close(R.T @ R, identity, rtol=0, atol=tolerance)
        inverse = method.rotate(identity, factors, inverse=True)
        torch.testing.assert_close(inverse, R.T, rtol=0, atol=tolerance)
        assert (R - identity).abs().max() > 0.1


def merges(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    """The merged model gives the adapted model's outputs, on few rows and on many."""
    for rows in (3, 100):
        x = inputs(rows, dtype)
        model, adapter = adapted(method, dtype=dtype)
        apart = model(x)
        adapter.merge()
        assert adapter.merged
        torch.testing.assert_close(model(x), apart, rtol=0, atol=tolerance)


def unmerges(method: Method, dtype: torch.dtype) -> None:
    """A hundred cycles of merging change no bit of the weights, and detaching leaves no trace."""
    model, adapter = adapted(method, dtype=dtype)
    before, first = Stack(dtype), model.first.base_layer
    for _ in range(100):
        adapter.merge()
        adapter.unmerge()
    adapter.merge()
    adapter.detach()
    assert model.first is first
    assert type(model.first) is nn.Linear
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before.state_dict()[name])


def matches_the_naive_twin(method: Method, rows: int, tolerance: float) -> None:
    """Outputs and gradients agree with the dense definition and plain autograd, in float64."""
    model, adapter = adapted(method, dtype=torch.float64)
    x = inputs(rows, torch.float64).requires_grad_()
    output = model(x)
    gradients = torch.autograd.grad(output.square().sum(), [x, *adapter.parameters()])

    twin = Stack(torch.float64)
    y = inputs(rows, torch.float64).requires_grad_()
    named = {n: p.detach().clone().requires_grad_() for n, p in adapter.named_parameters().items()}
    weights = {}
    for name in ("first", "second"):
        own = {n.removeprefix(f"{name}."): p for n, p in named.items() if n.startswith(f"{name}.")}
        W = twin.get_submodule(name).weight
        weights[f"{name}.weight"] = reference.adapted_weight(method, own, W)
    expected = torch.func.functional_call(twin, weights, (y,))
    wanted = torch.autograd.grad(expected.square().sum(), [y, *named.values()])
    torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradients, wanted, rtol=0, atol=100 * tolerance)


def moves_nothing_else(method: Method) -> None:
    """A step of training changes the adapter's parameters, all of them, and nothing else."""
    model, adapter = adapted(method)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(inputs(5)).square().sum().backward()
    optimizer.step()
    own = {id(p) for p in adapter.parameters()}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != (id(parameter) in own)


def saves(method: Method, folder: Path) -> None:
    """A saved adapter loads with the same settings, bits and outputs, merged when saved or not."""
    model, adapter = adapted(method)
    expected = model(inputs(5))
    adapter.save(folder / "apart")
    adapter.merge()
    adapter.save(folder / "merged")
    for name in ("apart", "merged"):
        twin = Stack()
        loaded = orthodiff.load(twin, folder / name)
        assert loaded.method == method
        assert loaded.named_parameters().keys() == adapter.named_parameters().keys()
        for a, b in zip(loaded.parameters(), adapter.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.requires_grad
        assert torch.equal(twin(inputs(5)), expected)


def repeats(method: Method) -> None:
    """The same seed gives the same bits, from a generator or from torch's own."""
    fresh: list[list[Tensor]] = []
    for seed in (5, 5, 6):
        generator = torch.Generator().manual_seed(seed)
        own = orthodiff.attach(Stack(), method, targets="*", generator=generator)
        model = Stack()
        torch.manual_seed(seed)
        plain = orthodiff.attach(model, method, targets="*")
        fresh.append([p.detach() for p in own.parameters() + plain.parameters()])
    assert all(map(torch.equal, fresh[0], fresh[1]))
    drawn = any(p.unique().numel() > 2 for p in fresh[0])
    assert drawn != all(map(torch.equal, fresh[0], fresh[2]))


def copies(method: Method) -> None:
    """Deep copies and pickles of (model, adapter), even after a pass, are whole and apart."""
    model, adapter = adapted(method)
    expected = model(inputs(5))
    for pair in (copy.deepcopy((model, adapter)), pickle.loads(pickle.dumps((model, adapter)))):
        twin, handle = pair
        assert torch.equal(twin(inputs(5)), expected)
        handle.parameters()[0].data.normal_()
        assert not torch.equal(twin(inputs(5)), expected)
        assert torch.equal(model(inputs(5)), expected)
        handle.detach()
        assert torch.equal(twin(inputs(5)), Stack()(inputs(5)))


CONVOLUTIONS = {
    "pointwise": nn.Conv2d(32, 24, 1),
    "pointwise-many": nn.Conv2d(32, 4, 1, stride=2, padding=1, bias=False),
    "wide": nn.Conv2d(16, 6, 3, padding=1),
    "skipping": nn.Conv2d(16, 6, (3, 1), stride=(2, 1), dilation=(1, 2), padding=2),
    "circular": nn.Conv2d(16, 6, 3, padding=1, padding_mode="circular"),
    "grouped": nn.Conv2d(32, 6, 3, groups=2),
}


def adapts_convolutions(method: Method, convolution: nn.Conv2d, tolerance: float) -> None:
    """A convolution starts as it is, turns its filters as the dense twin does, and merges."""
    model = nn.Sequential(copy.deepcopy(convolution).double())
    twin = copy.deepcopy(model)[0]
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, twin.in_channels, 5, 6, generator=generator).double()
    adapter = orthodiff.attach(model, method, targets="0", generator=generator)
    for parameter in adapter.parameters():
        parameter.data = parameter.data.double()
    if method in AT_IDENTITY.values():
        torch.testing.assert_close(model(x), twin(x), rtol=0, atol=tolerance)
    for parameter in adapter.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    apart = model(x)
    gradients = torch.autograd.grad(apart.square().sum(), adapter.parameters())
    named = {n.removeprefix("0."): p for n, p in adapter.named_parameters().items()}
    flat = {n: p.flatten(1) if n.startswith("lora") else p for n, p in named.items()}
    weight = reference.adapted_weight(method, flat, twin.weight.flatten(1)).view_as(twin.weight)
    expected = torch.func.functional_call(twin, {"weight": weight}, (x,))
    torch.testing.assert_close(apart, expected, rtol=0, atol=tolerance)
    wanted = torch.autograd.grad(expected.square().sum(), list(named.values()))
    torch.testing.assert_close(gradients, wanted, rtol=0, atol=1000 * tolerance)
    adapter.merge()
    torch.testing.assert_close(model(x), apart, rtol=0, atol=tolerance)
    adapter.detach()
    assert torch.equal(model[0].weight, twin.weight)


def works_in(method: Method, dtype: torch.dtype, *, autocast: bool, tolerance: float) -> None:
    """Half-precision activations give nearly float32's outputs; gradients stay float32."""
    for rows in (3, 100):
        exact, _ = adapted(method)
        expected = exact(inputs(rows))
        model, adapter = adapted(method, dtype=torch.float32 if autocast else dtype)
        with torch.autocast("cpu", dtype, enabled=autocast):
            output = model(inputs(rows, torch.float32 if autocast else dtype))
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=tolerance)
        output.float().square().sum().backward()
        assert all(
            p.grad is not None and p.grad.dtype == torch.float32 for p in adapter.parameters()
        )


def follows_the_rotation_group(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    """R(0) = I, R(1) = R, orthogonal throughout; R(a) R(b) = R(a + b) unless it is a butterfly."""
    _, adapter = adapted(method, dtype=dtype)
    identity = torch.eye(WIDTH, dtype=dtype)
    butterfly = isinstance(method, orthodiff.BOFT) and method.factors > 1

    def turn(layer: RotatedLayer, strength: float) -> Tensor:
        adapter.strength = strength
        return method.rotate(identity, layer.factors()).detach()

    for layer in adapter.layers.values():
        assert isinstance(layer, RotatedLayer)
        torch.testing.assert_close(turn(layer, 0), identity, rtol=0, atol=tolerance)
        factors = method.arrange(solve(method, layer.adapter_parameters()))
        trained = method.rotate(identity, factors).detach()
        assert torch.equal(turn(layer, 1), trained)
        for strength in (-2.0, -1.0, 0.3, 0.7, 0.999999, 2.5):
            R = turn(layer, strength)
            torch.testing.assert_close(R @ R.T, identity, rtol=0, atol=tolerance)
        if not butterfly:
            torch.testing.assert_close(turn(layer, -1), trained.T, rtol=0, atol=tolerance)
            product = turn(layer, 0.3) @ turn(layer, 0.7)
            torch.testing.assert_close(product, trained, rtol=0, atol=tolerance)
            square = turn(layer, 2.0)
            torch.testing.assert_close(square, trained @ trained, rtol=0, atol=tolerance)


def merges_at_every_strength(method: Method, tolerance: float) -> None:
    """Merged and apart agree at every strength; setting it while merged merges anew."""
    x = inputs(5, torch.float64)
    model, adapter = adapted(method, dtype=torch.float64)
    trained, base = model(x), Stack(torch.float64)(x)
    for strength in (0.5, -1.5, 0.0, 1.0):
        adapter.strength = strength
        apart = model(x)
        adapter.merge()
        torch.testing.assert_close(model(x), apart, rtol=0, atol=tolerance)
        adapter.strength = 0.0
        torch.testing.assert_close(model(x), base, rtol=0, atol=tolerance)
        adapter.unmerge()
    adapter.strength = 1.0
    assert torch.equal(model(x), trained)

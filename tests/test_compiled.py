"""Compiled layers share the solves of a pass, as inputs of their graphs, and train the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import orthodiff
from benchmarks.launches import Launches
from orthodiff.adapters.compiled import compile_model
from orthodiff.errors import UserError
from orthodiff.training.options import MemoryOptions
from orthodiff.training.run.hardware import set_up
from tests.test_inject import predict as predict_unet
from tests.test_inject import shake, tiny_unet

# torch's own, while it traces; with warnings as errors they would end the compilation.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Predict = Callable[[nn.Module], Tensor]
METHODS = {
    "hra": orthodiff.HRA(rank=4),
    "oft": orthodiff.OFT(block_size=8),
    "boft": orthodiff.BOFT(block_size=8),
}


class Graphs:
    """A compiler that keeps what it is given, and runs it as it stands."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs.append(graph)
        return graph.forward

    @property
    def solves(self) -> int:
        """How many solves stand in the graphs."""
        nodes = [str(node.target) for graph in self.graphs for node in graph.graph.nodes]
        return sum("solve" in name or "inv_ex" in name for name in nodes)


class Block(nn.Module):
    """Two linear layers, the second one on another number of rows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, width) for x of that shape."""
        return x + self.second(self.first(x).tanh()[:1])


class Stack(ModelMixin):
    """Blocks of two widths, those of one width being repeated."""

    _repeated_blocks: ClassVar = ["Block"]

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(Block(16) for _ in range(3))
        self.widen = nn.Linear(16, 32)
        self.wide = nn.ModuleList(Block(32) for _ in range(3))
        self.checkpoints = False

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, 32) for x (rows, 16)."""
        for block in (*self.narrow, self.widen, *self.wide):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpoints else block(x)
        return x


def adapted(method: orthodiff.Method) -> tuple[Stack, orthodiff.Adapter]:
    torch.manual_seed(0)
    model = Stack().train()
    adapter = orthodiff.attach(model, method, targets="*")
    shake(adapter)
    return model, adapter


def adapted_like(adapter: orthodiff.Adapter) -> Stack:
    model, twin = adapted(adapter.method)
    twin.load_state_dict(adapter.state_dict())
    return model


def predict(model: nn.Module) -> Tensor:
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    return model(rows.requires_grad_())


def train(
    model: nn.Module, adapter: orthodiff.Adapter, steps: int = 2, predict: Predict = predict
) -> list[Tensor]:
    """The loss and gradients of some steps downhill."""
    results = []
    for _ in range(steps):
        loss = predict(model).square().mean()
        gradients = torch.autograd.grad(loss, adapter.parameters())
        results += [loss.detach(), *gradients]
        with torch.no_grad():
            for parameter, gradient in zip(adapter.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.1)
    return results


@pytest.mark.parametrize("name", METHODS)
def test_repeated_blocks_train_the_same_with_solves_outside(name: str) -> None:
    """The second step meets other factors: with those of the first it would go elsewhere."""
    graphs = Graphs()
    expected = train(*adapted(METHODS[name]))
    model, adapter = adapted(METHODS[name])
    compile_model(model, repeated_blocks=True, backend=graphs)
    output = train(model, adapter, steps=1)
    count = len(graphs.graphs)
    output += train(model, adapter, steps=1)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0
    assert len(graphs.graphs) == count == 2  # one for each width, used by all blocks and steps


def test_a_whole_model_trains_the_same_with_solves_outside() -> None:
    graphs = Graphs()
    expected = train(*adapted(METHODS["hra"]))
    model, adapter = adapted(METHODS["hra"])
    compile_model(model, backend=graphs)
    torch.testing.assert_close(train(model, adapter), expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0
    assert len(graphs.graphs) == 1
    with torch.no_grad():  # another graph, and other factors
        torch.testing.assert_close(predict(model), predict(adapted_like(adapter)))


def test_checkpointed_blocks_are_computed_again_from_the_same_factors() -> None:
    expected = train(*adapted(METHODS["hra"]))
    graphs = Graphs()
    model, adapter = adapted(METHODS["hra"])
    model.checkpoints = True
    compile_model(model, repeated_blocks=True, backend=graphs)
    torch.testing.assert_close(train(model, adapter), expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0


def test_a_model_compiled_with_its_hooks_never_sees_the_factors_of_an_earlier_pass() -> None:
    model, adapter = adapted(METHODS["hra"])
    compile_model(model, repeated_blocks=True, backend="eager")
    train(model, adapter, steps=1)
    graphs = Graphs()
    compiled = torch.compile(model, backend=graphs)
    torch.testing.assert_close(predict(compiled), predict(adapted_like(adapter)))
    assert graphs.solves > 0


def test_a_compiled_step_solves_once_for_each_width_and_launches_less() -> None:
    """What reaches torch's kernels, with and without sharing the solves."""
    counts = {}
    for shares in (True, False):
        torch.compiler.reset()
        model, adapter = adapted(METHODS["hra"])
        if shares:
            compile_model(model, repeated_blocks=True, backend="eager")
        else:
            model.compile_repeated_blocks(backend="eager")
        train(model, adapter, steps=1)
        with Launches() as launches:
            predict(model).square().mean().backward()
        counts[shares] = launches
    solves = [count.kernels["linalg_solve_triangular"] for count in counts.values()]
    # forward and back: of both widths; of each of twelve layers, and besides of the one between
    # blocks, whose width is solved at the start of the pass, as is the other one, for nobody
    assert solves == [2 * 2, 2 * 12 + 3]
    assert counts[True].kernels.total() < counts[False].kernels.total()


@pytest.mark.slow
@pytest.mark.parametrize(("repeated_blocks", "backend"), [(True, "aot_eager"), (False, "eager")])
def test_a_unet_trains_the_same(repeated_blocks: bool, backend: str) -> None:
    def of_unet() -> tuple[nn.Module, orthodiff.Adapter]:
        unet = tiny_unet().train()
        adapter = orthodiff.attach(unet, METHODS["hra"])
        shake(adapter)
        return unet, adapter

    torch.compiler.reset()
    unet, adapter = of_unet()
    compile_model(unet, repeated_blocks=repeated_blocks, backend=backend)
    output = train(unet, adapter, predict=predict_unet)
    torch.testing.assert_close(output, train(*of_unet(), predict=predict_unet))


@pytest.mark.slow
def test_machine_code_of_blocks_trains_the_same() -> None:
    """By torch's own compiler, of layers whose gradients it gets right on a CPU."""
    torch.compiler.reset()
    model, adapter = adapted(METHODS["hra"])
    compile_model(model, repeated_blocks=True)
    output = train(model, adapter)
    torch.testing.assert_close(output, train(*adapted(METHODS["hra"])), rtol=1e-4, atol=1e-5)


def test_a_model_that_names_no_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="--compile_repeated_blocks"):
        compile_model(nn.Sequential(nn.Linear(4, 4)), repeated_blocks=True)


def test_the_flag_says_which_part_is_compiled() -> None:
    with pytest.raises(ValueError, match="--torch_compile"):
        MemoryOptions(compile_repeated_blocks=True)
    for repeated_blocks in (True, False):
        unet = tiny_unet()
        options = MemoryOptions(torch_compile=True, compile_repeated_blocks=repeated_blocks)
        set_up(options, unet)
        compiled = [m for m in unet.modules() if m._compiled_call_impl is not None]
        assert bool(compiled) == repeated_blocks
        assert ("forward" in vars(unet)) != repeated_blocks

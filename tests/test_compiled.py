"""Compiled layers share the solves of a pass, as inputs of their graphs, and train the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import orthodiff
from benchmarks.launches import Launches
from orthodiff.adapters.compiled import compile_model
from orthodiff.errors import UserError
from orthodiff.training.options import MemoryOptions
from orthodiff.training.run.hardware import set_up
from tests.test_inject import predict, shake, tiny_unet

# torch's own, while it traces; with warnings as errors they would end the compilation.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

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


def adapted(method: orthodiff.Method) -> tuple[nn.Module, orthodiff.Adapter]:
    unet = tiny_unet().train()
    adapter = orthodiff.attach(unet, method)
    shake(adapter)
    return unet, adapter


def train(unet: nn.Module, adapter: orthodiff.Adapter, steps: int = 2) -> list[Tensor]:
    """The loss and gradients of some steps downhill."""
    results = []
    for _ in range(steps):
        loss = predict(unet).square().mean()
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
    unet, adapter = adapted(METHODS[name])
    compile_model(unet, repeated_blocks=True, backend=graphs)
    output = train(unet, adapter, steps=1)
    count = len(graphs.graphs)
    output += train(unet, adapter, steps=1)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0
    # one for each width, and one for the first block, whose input wants no gradient
    assert len(graphs.graphs) == count == 3
    assert sum(type(m).__name__ == "BasicTransformerBlock" for m in unet.modules()) > count


def test_a_whole_model_trains_the_same_with_solves_outside() -> None:
    graphs = Graphs()
    expected = train(*adapted(METHODS["hra"]))
    unet, adapter = adapted(METHODS["hra"])
    compile_model(unet, backend=graphs)
    torch.testing.assert_close(train(unet, adapter), expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0
    assert len(graphs.graphs) == 1
    with torch.no_grad():  # another graph, and other factors
        torch.testing.assert_close(predict(unet), predict(adapted_like(adapter)))


def adapted_like(adapter: orthodiff.Adapter) -> nn.Module:
    unet = tiny_unet().train()
    orthodiff.attach(unet, adapter.method).load_state_dict(adapter.state_dict())
    return unet


def test_checkpointed_blocks_are_computed_again_from_the_same_factors() -> None:
    expected = train(*adapted(METHODS["hra"]))
    graphs = Graphs()
    unet, adapter = adapted(METHODS["hra"])
    unet.enable_gradient_checkpointing()  # type: ignore[operator]
    compile_model(unet, repeated_blocks=True, backend=graphs)
    torch.testing.assert_close(train(unet, adapter), expected, rtol=1e-5, atol=1e-7)
    assert graphs.solves == 0


def test_a_model_compiled_with_its_hooks_never_sees_the_factors_of_an_earlier_pass() -> None:
    unet, adapter = adapted(METHODS["hra"])
    compile_model(unet, repeated_blocks=True, backend="eager")
    train(unet, adapter, steps=1)
    torch.compiler.reset()
    graphs = Graphs()
    compiled = torch.compile(unet, backend=graphs)
    torch.testing.assert_close(predict(compiled), predict(adapted_like(adapter)))
    assert graphs.solves > 0


def test_a_compiled_step_solves_once_for_each_width_and_launches_less() -> None:
    """What reaches torch's kernels, of the solves, with and without sharing them."""
    counts = {}
    for shares in (True, False):
        torch.compiler.reset()
        unet, adapter = adapted(METHODS["hra"])
        if shares:
            compile_model(unet, repeated_blocks=True, backend="eager")
        else:
            unet.compile_repeated_blocks(backend="eager")  # type: ignore[operator]
        train(unet, adapter, steps=1)
        with Launches() as launches:
            predict(unet).square().mean().backward()
        counts[shares] = launches
    solves = [count.kernels["linalg_solve_triangular"] for count in counts.values()]
    assert solves[0] < solves[1] / 2
    assert counts[True].kernels.total() < counts[False].kernels.total()


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

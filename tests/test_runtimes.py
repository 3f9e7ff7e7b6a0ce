"""Adapted models where torch runs them otherwise: compiled, in parallel, quantized, tied."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import orthodiff
from orthodiff.adapters import Method
from orthodiff.errors import UserError
from tests import laws, parallel
from tests.laws import CASES
from tests.test_adapters import over
from tests.test_inject import predict, shake, tiny_unet


class Small(nn.Module):
    """A linear layer on few and on many rows, and convolutions of both sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 16)
        self.point, self.wide = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, 4, 1, 1) for x (rows, 32)."""
        pixels = self.second(self.first(x).tanh())[..., None, None].expand(-1, -1, 3, 3)
        return self.wide(self.point(pixels))


# torch's own, while it traces; with warnings as errors they would end the compilation.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]


@pytest.mark.parametrize(
    ("name", "strength"),
    [("hra", 1.0), ("hra-strict", 1.0), ("oft", 1.0), ("boft-scaled", 1.0), ("hra", 0.5)],
)
def test_traces_without_a_break(name: str, strength: float) -> None:
    torch.compiler.reset()
    method = CASES[name]
    model = Small()
    adapter = orthodiff.attach(model, method, targets=("*", "point", "wide"))
    shake(adapter)
    adapter.strength = strength
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for rows in (laws.inputs(3), laws.inputs(20)):
        expected, output = model(rows), compiled(rows)
        torch.testing.assert_close(output, expected, rtol=0, atol=5e-6)
        if strength == 1:
            wanted = torch.autograd.grad(expected.square().sum(), adapter.parameters())
            found = torch.autograd.grad(output.square().sum(), adapter.parameters())
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiles_to_machine_code_without_a_break() -> None:
    if not _has_compiler():
        pytest.skip("torch.compile's inductor needs a C++ compiler: apt-get install g++")
    torch.compiler.reset()
    layer = nn.Sequential(nn.Linear(32, 16))
    adapter = orthodiff.attach(layer, orthodiff.HRA(rank=4), targets="0")
    shake(adapter)
    rows = laws.inputs(20)
    output = torch.compile(layer, fullgraph=True)(rows)
    torch.testing.assert_close(output, layer(rows), rtol=0, atol=5e-6)
    wanted = torch.autograd.grad(layer(rows).square().sum(), adapter.parameters())
    found = torch.autograd.grad(output.square().sum(), adapter.parameters())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def _has_compiler() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


@pytest.mark.slow
def test_a_whole_unet_is_compiled_without_a_break() -> None:
    torch.compiler.reset()
    unet = tiny_unet()
    shake(orthodiff.attach(unet, orthodiff.HRA(rank=4)))
    expected = predict(unet)
    unet.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(predict(unet), expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not dist.is_available(), reason="this torch is built without distributed")
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(parallel.process, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, method in CASES.items():
        expected = parallel.gradients(method, rank=None, batch=slice(8))
        assert all(map(torch.equal, first[name], second[name]))
        # The same float32 sums in another order.
        torch.testing.assert_close(first[name], expected, rtol=1e-4, atol=1e-5)


GPU = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
)


@over(CASES)
@pytest.mark.parametrize("device", [GPU])
def test_a_gpu_gives_what_the_cpu_gives(method: Method, device: str) -> None:
    model, adapter = laws.adapted(method)
    there, other = copy.deepcopy((model, adapter))
    there.to(device)
    rows = laws.inputs(5)
    for strength in (1.0, 0.5, 0.0):
        adapter.strength = other.strength = strength
        torch.testing.assert_close(there(rows.to(device)).cpu(), model(rows), rtol=0, atol=1e-5)
    adapter.strength = other.strength = 1
    wanted = torch.autograd.grad(model(rows).square().sum(), adapter.parameters())
    found = torch.autograd.grad(there(rows.to(device)).square().sum(), other.parameters())
    torch.testing.assert_close([g.cpu() for g in found], wanted, rtol=1e-4, atol=1e-4)
    other.merge()
    torch.testing.assert_close(there(rows.to(device)).cpu(), model(rows), rtol=0, atol=1e-5)
    if not isinstance(method, orthodiff.LoRA):
        back = orthodiff.compose(other, adapter.inverse())
        expected = laws.Stack()(rows)
        assert {p.device.type for p in back.parameters()} == {device}
        torch.testing.assert_close(there(rows.to(device)).cpu(), expected, rtol=0, atol=1e-5)


def bitsandbytes(kind: str) -> Callable[[], nn.Linear]:
    """Return what makes an empty layer of bitsandbytes: 8 bits, or 4 in bytes or in floats."""
    nn_of_bits = pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes"
    ).nn
    if kind == "int8":
        return lambda: nn_of_bits.Linear8bitLt(64, 48, has_fp16_weights=False)
    storage = torch.float32 if kind == "nf4-in-floats" else torch.uint8
    return lambda: nn_of_bits.Linear4bit(
        64, 48, quant_type="nf4", compute_dtype=torch.float32, quant_storage=storage
    )


@over(CASES)
@pytest.mark.parametrize("kind", ["int8", "nf4", "nf4-in-floats"])
@pytest.mark.filterwarnings("ignore")
def test_a_quantized_base_is_rotated_on_its_inputs(method: Method, kind: str) -> None:
    layer = bitsandbytes(kind)()
    layer.load_state_dict(nn.Linear(64, 48).state_dict())
    model = nn.Sequential(layer.to("cpu"))
    rows = torch.randn(50, 64)
    with torch.no_grad():
        unpacked = (model(torch.eye(64)) - layer.bias).T
        before = model(rows)
    adapter = orthodiff.attach(model, method, targets="*")
    twin = nn.Sequential(nn.Linear(64, 48))
    twin[0].weight.data, twin[0].bias = unpacked, layer.bias
    handle = orthodiff.attach(twin, method, targets="*")
    shake(adapter)
    handle.load_state_dict(adapter.state_dict())
    # 8 bits round the activations as well: to 1/127 of a row's largest number.
    tolerance = 0.1 if kind == "int8" else 1e-5
    torch.testing.assert_close(model(rows), twin(rows), rtol=0, atol=tolerance)
    assert (model(rows) - before).abs().max() > 2 * tolerance
    model(rows).square().sum().backward()
    twin(rows).square().sum().backward()
    for own, wanted in zip(adapter.parameters(), handle.parameters(), strict=True):
        assert own.grad is not None
        assert wanted.grad is not None
        assert (own.grad - wanted.grad).norm() <= 10 * tolerance * wanted.grad.norm()
    with pytest.raises(UserError, match="quantized"):
        adapter.merge()
    assert not adapter.merged
    adapter.detach()
    assert torch.equal(model(rows), before)


def test_a_tied_weight_is_merged_in_one_place_only() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    model, words = LlamaForCausalLM(config).eval(), torch.arange(10)[None]
    before = copy.deepcopy(model)(words).logits
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=4), targets="*")
    assert "lm_head" in adapter.layers
    shake(adapter)
    apart = model(words).logits
    adapter.merge()
    torch.testing.assert_close(model(words).logits, apart, rtol=0, atol=1e-5)
    adapter.detach()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model(words).logits, before)

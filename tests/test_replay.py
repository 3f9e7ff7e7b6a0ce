"""A recording gives the same bits as what was recorded, whatever the adapter, the device's kernels
and chance; where it cannot, all is computed as usual."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import orthodiff
from orthodiff import ADAPTERS, BOFT, HRA
from orthodiff.adapters import Method
from orthodiff.training.engine.packing import Packing
from orthodiff.training.engine.recorded import Replay
from orthodiff.training.engine.recorder import Recording, Results
from orthodiff.training.events.log import read_events
from tests.runs import make_images, train, weights
from tests.tiny import TINY_UNET

METHODS: dict[str, Method] = {
    **{name: kind(**({"block_size": 4} if "block_size" in kind.__dataclass_fields__ else {}))
       for name, kind in ADAPTERS.items()},
    "pulled apart": HRA(rank=4, regularization=1e-3),
    "strict": HRA(rank=4, strict=True),
    "dropped blocks": BOFT(block_size=4, factors=2, dropout=0.3),
}  # fmt: skip


def adapted(method: Method, *, checkpointing: bool = False) -> tuple[nn.Module, list[Tensor]]:
    """A tiny UNet with channels last, and what is learned on it."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**TINY_UNET).requires_grad_(False).train()
    unet.to(memory_format=torch.channels_last)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    adapter = orthodiff.attach(unet, method)
    unet.regularizer = adapter.regularizer
    learned = adapter.parameters()
    with torch.no_grad():
        for parameter in learned:  # away from the start, where some gradients are zero
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return unet, learned


def some_inputs(count: int = 2, side: int = 8) -> list[Tensor]:
    """Noisy latents, timesteps and prompts."""
    width = TINY_UNET["cross_attention_dim"]
    noisy = torch.randn(count, 4, side, side)
    return [noisy, torch.randint(1000, (count,)), torch.randn(count, 5, width)]


def gradients(unet: nn.Module, learned: list[Tensor], inputs: list[Tensor]) -> Results:
    """A loss and its gradients, by the usual way of autograd."""
    loss = unet(*inputs).sample.square().mean()
    loss = loss + unet.regularizer()
    return [loss.detach(), *torch.autograd.grad(loss, learned)]


def only_recording(replay: Replay) -> Recording | None:
    (recording,) = replay._recordings.values()
    return recording


@pytest.mark.parametrize(
    ("name", "checkpointing"),
    [*((name, False) for name in METHODS), ("hra", True), ("dropped blocks", True)],
)
def test_every_method_is_replayed_to_the_same_bits(name: str, checkpointing: bool) -> None:
    unet, learned = adapted(METHODS[name], checkpointing=checkpointing)
    replay = Replay(eager_calls=1)
    for call in range(5):
        inputs = some_inputs()
        torch.manual_seed(call)
        expected = gradients(unet, learned, inputs)
        torch.manual_seed(call)  # of dropped blocks
        found = replay(inputs, lambda inputs=inputs: gradients(unet, learned, inputs))
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
        with torch.no_grad():
            for parameter in learned:  # as an optimizer does: a recording reads what is there now
                parameter.mul_(1.01)
    recording = only_recording(replay)
    assert (recording is None) == (name == "dropped blocks")
    assert recording is None or recording.is_proven


def test_what_is_replayed_is_not_computed() -> None:
    calls = []

    def compute(x: Tensor) -> Results:
        calls.append(x)
        return [x * 2]

    replay = Replay(eager_calls=2)
    for number in range(6):
        x = torch.full((3,), float(number))
        assert torch.equal(replay([x], lambda x=x: compute(x))[0], 2 * x)
    assert len(calls) == 2 + 1 + 1  # as usual, recorded, compared


def test_every_shape_has_its_own_recording() -> None:
    replay = Replay(eager_calls=0)
    for number in range(9):
        x = torch.randn(2 + number % 3)
        assert torch.equal(replay([x], lambda x=x: [x.flip(0).cumsum(0)])[0], x.flip(0).cumsum(0))
    assert len(replay._recordings) == 3
    assert all(recording and recording.is_proven for recording in replay._recordings.values())


def test_what_is_not_there_stays_away_and_gradients_come_in_their_places() -> None:
    replay = Replay(eager_calls=0)
    for _ in range(3):
        x = torch.randn(3)
        first, nothing, last = replay([x], lambda x=x: [x + 1, None, x + 2])
        assert nothing is None
        assert torch.equal(first, x + 1)
        assert torch.equal(last, x + 2)
    assert only_recording(replay) is not None


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: [x * x.sum().item()],  # a number comes to Python
        lambda x: [x[x > 0].sum()],  # as many as there are
        lambda x: [torch.normal(x, 1.0, generator=torch.Generator().manual_seed(1))],
        lambda x: [x + 0 * torch.rand(5)],
    ],
    ids=["item", "mask", "generator", "chance"],
)
def test_what_python_decides_is_computed_as_usual(compute: Callable[[Tensor], Results]) -> None:
    replay = Replay(eager_calls=0)
    for _ in range(4):
        x = torch.randn(5)
        assert torch.equal(replay([x], lambda x=x: compute(x))[0], compute(x)[0])
    assert only_recording(replay) is None


def test_a_recording_that_differs_is_thrown_away_with_a_word() -> None:
    replay, kept = Replay(eager_calls=0), {"factor": 1.0}

    def compute(x: Tensor) -> Results:
        return [x * kept["factor"]]  # of Python, so that the recording cannot know it

    for factor in (2.0, 2.0):
        kept["factor"] = factor
        x = torch.randn(3)
        replay([x], lambda x=x: compute(x))
    assert only_recording(replay) is not None

    replay = Replay(eager_calls=0)
    replay([x], lambda: compute(x))
    kept["factor"] = 3.0
    with pytest.warns(UserWarning, match="not run from a recording"):
        assert torch.equal(replay([x], lambda: compute(x))[0], 3 * x)
    assert torch.equal(replay([x], lambda: compute(x))[0], 3 * x)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (5, 1)])
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")
def test_packed_filters_convolve_to_the_same_bits(size: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, size, stride, padding=size // 2).requires_grad_(False)
    layer.to(memory_format=torch.channels_last)
    replay, expected = Replay(eager_calls=0), []

    def compute(x: Tensor) -> Results:
        x = x.clone().requires_grad_(True)
        y = layer(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [x])]

    for _ in range(4):
        x = torch.randn(2, 16, 8, 8).to(memory_format=torch.channels_last)
        found, expected = replay([x], lambda x=x: compute(x)), compute(x)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
    # Forward and backward; the latter is another convolution only where the stride is one.
    assert len(replay._packing._packed) == (2 if stride == 1 else 1)


def convolution(filters: Tensor) -> tuple[tuple[Any, ...], Tensor]:
    """What torch is told, and what comes of it, for an input that suits packed filters."""
    x = torch.randn(2, filters.shape[1], 8, 8).to(memory_format=torch.channels_last)
    words = (x, filters, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    return words, torch.ops.aten.convolution(*words)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")
def test_packing_stops_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = [torch.randn(8, 8, 3, 3) for _ in range(4)]
    monkeypatch.setattr("orthodiff.training.engine.packing.ROOM", 3 * filters[0].nbytes)
    packing, func = Packing(), torch.ops.aten.convolution.default
    packed = [packing.instead(func, *convolution(each)) is not None for each in filters]
    assert packed == [True, True, True, False]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")
@pytest.mark.parametrize("change", [lambda x: x + 1e-6, lambda x: x.contiguous()])
def test_packed_filters_are_used_only_where_bits_and_layout_are_the_same(
    change: Callable[[Tensor], Tensor],
) -> None:
    func, (words, output) = torch.ops.aten.convolution.default, convolution(torch.randn(8, 8, 3, 3))
    assert Packing().instead(func, words, output) is not None
    assert Packing().instead(func, words, change(output)) is None


def _losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_events(folder / "events.jsonl") if e["event"] == "Step"]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_run_ends_at_the_same_bits_with_and_without(
    tiny: Path, tmp_path: Path, accumulated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = []
    run = Recording.__call__
    monkeypatch.setattr(Recording, "__call__", lambda *a: replayed.append(a) or run(*a))
    images = make_images(tmp_path / "pictures", count=4)
    flags = {"max_train_steps": 10, "gradient_accumulation_steps": accumulated, "rank": 4}
    train(tiny, images, tmp_path / "with", **flags)
    assert len(replayed) == 1 + 10 * accumulated - 5  # the first one tries whether torch can
    train(tiny, images, tmp_path / "without", replay="false", channels_last="true", **flags)
    assert weights(tmp_path / "with") == weights(tmp_path / "without")
    assert _losses(tmp_path / "with") == _losses(tmp_path / "without")


def test_numbers_of_python_are_part_of_a_recordings_form() -> None:
    """Steps of one and of two batches share out the regularizer otherwise, in the same shapes."""
    replay = Replay(eager_calls=0)
    for call in range(8):
        x, share = torch.randn(3), (1.0, 0.5)[call % 2]
        loss = replay([x], lambda x=x, share=share: [x * share], form=share)[0]
        assert torch.equal(loss, x * share)
    assert [recording.is_proven for recording in replay._recordings.values()] == [True, True]


def test_a_torch_without_recordings_trains_eagerly_to_the_same_bits_and_says_so_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = make_images(tmp_path / "pictures")
    train(tiny, images, tmp_path / "with", max_train_steps=8)
    monkeypatch.delattr(torch.jit, "CompilationUnit")
    assert train(tiny, images, tmp_path / "without", max_train_steps=8) == 0
    (message,) = [record.getMessage() for record in caplog.records if "eagerly" in record.msg]
    assert "CompilationUnit" in message
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


def test_without_the_private_convolutions_nothing_is_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orthodiff.training.engine.packing.PRIVATE", ("no_such_operation",))
    assert Packing()._room == 0


def test_a_run_goes_on_to_the_same_bits_from_amid_its_recording(tiny: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "pictures")
    train(tiny, images, tmp_path / "whole", max_train_steps=16)
    part = tmp_path / "part"
    train(tiny, images, part, max_train_steps=8, checkpointing_steps=8)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 16}
    assert train(tiny, images, part, **again) == 0
    assert weights(part) == weights(tmp_path / "whole")
    assert _losses(part) == _losses(tmp_path / "whole")


def test_a_text_encoder_that_learns_is_never_replayed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are words to it, which a recording would not see change."""
    monkeypatch.setattr(Recording, "__call__", lambda *_: pytest.fail("replayed"))
    images = make_images(tmp_path / "pictures")
    flags = {"train_text_encoder": "true", "max_train_steps": 8}
    assert train(tiny, images, tmp_path / "run", **flags) == 0
    saved = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert saved["peft_type"] == "HRA"

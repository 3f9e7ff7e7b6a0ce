"""What an adapter adds to a training step: kernels, and waits for the device."""

from __future__ import annotations

import pytest
import torch

import orthodiff
from benchmarks.launches import BASE, YARDSTICK, Launches, measure
from tests.test_inject import predict, shake, tiny_unet


@pytest.mark.filterwarnings("ignore")  # PEFT tells that BOFT's CUDA extension is missing
def test_adapters_add_at_most_nine_tenths_of_loras_kernels_and_never_wait() -> None:
    rows = (BASE, YARDSTICK, "HRA r8", "OFT b32", "BOFT b8 m4")
    for result in measure("SD 1.5", "float32", rows):
        assert result["waits"] == 0, result
        if result["row"] not in (BASE, YARDSTICK):
            assert 0 < result["ratio"] <= 0.9, result


def test_waits_are_counted() -> None:
    with Launches() as launches:
        x = torch.ones(3)
        assert x.sum() > 2
        _ = x[x > 0]
        _ = x[torch.tensor([0, 1])]  # its size is known
        torch.linalg.inv(torch.eye(2))
    assert launches.waits == {"_local_scalar_dense": 1, "index": 1, "_linalg_check_errors": 1}


@pytest.mark.parametrize("method", [orthodiff.HRA(rank=4), orthodiff.HRA(rank=4, strict=True),
                                    orthodiff.OFT(block_size=8, eps=0.1, dropout=0.2),
                                    orthodiff.BOFT(block_size=8, dropout=0.2, output_scale=True)],
                         ids=lambda method: method.name)  # fmt: skip
def test_no_method_waits_whatever_its_settings(method: orthodiff.Method) -> None:
    unet = tiny_unet().train()
    with Launches() as plain:
        predict(unet).square().mean().backward()
    adapter = orthodiff.attach(unet, method)
    shake(adapter)
    with Launches() as launches:
        (predict(unet).square().mean() + adapter.regularizer()).backward()
    assert launches.waits == plain.waits


def test_factors_are_cast_once_a_group_and_not_once_a_layer() -> None:
    def casts(count: int) -> int:
        model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(count)))
        adapter = orthodiff.attach(model.bfloat16(), orthodiff.HRA(rank=2), targets="*")
        x = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
        with Launches() as launches:
            model(x).sum().backward()
        assert all(p.grad is not None for p in adapter.parameters())
        return launches.kernels["_to_copy"]

    assert casts(2) == casts(6)


def test_the_penalty_solves_nothing_and_is_what_the_paper_says() -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, orthodiff.HRA(rank=4, regularization=0.5))
    shake(adapter)
    with Launches() as launches:
        penalty = adapter.regularizer()
    assert not [name for name in launches.kernels if "solve" in name]
    expected = torch.zeros(())
    for U in adapter.parameters():
        V = U / U.norm(dim=0)
        expected = expected + 0.5 * (V.T @ V - torch.eye(4)).square().sum()  # eq. 6
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    assert all(p.grad is not None for p in adapter.parameters())
    off = orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4))
    assert off.regularizer() == 0

"""Muon: exact orthogonal factors, torch's own Muon in the limit, AdamW for what is no matrix."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from orthodiff.training.optim.build import make_optimizer
from orthodiff.training.optim.muon import RMS, Muon, orthogonal_factor
from tests.runs import make_images, train, weights
from tests.test_config import read

SHAPES = [(24, 6), (6, 24), (8, 8), (5, 1)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stepped(values: Tensor, gradients: list[Tensor], optimizer: type, **how: object) -> Tensor:
    parameter = nn.Parameter(values.clone())
    steps = optimizer([{"params": [parameter], **how}], lr=0.1, weight_decay=0.01)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        steps.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_factor_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrices = random(3, *shape)
    U, _, V = torch.linalg.svd(matrices.double(), full_matrices=False)
    # float32's rounding of entries below 1
    torch.testing.assert_close(orthogonal_factor(matrices), (U @ V).float(), atol=1e-6, rtol=0)


def test_directions_without_a_gradient_stand_still() -> None:
    """As those of reflections that start as twins, whose gradients cancel, and of zeros."""
    half = random(24, 3)
    twins = orthogonal_factor(torch.cat([half, -half], dim=1))
    assert torch.linalg.svdvals(twins).round(decimals=5).tolist() == [1, 1, 1, 0, 0, 0]
    torch.testing.assert_close(twins[:, :3], -twins[:, 3:], atol=1e-6, rtol=0)
    assert not orthogonal_factor(torch.zeros(2, 5, 3)).any()


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_the_basis_does_not_matter(shape: tuple[int, int]) -> None:
    left, right = (torch.linalg.qr(random(n, n, seed=n + 1)).Q for n in shape)
    start, gradients = random(*shape), [random(*shape, seed=seed) for seed in (1, 2, 3)]
    there = stepped(
        left @ start @ right, [left @ g @ right for g in gradients], Muon, is_matrices=True
    )
    here = stepped(start, gradients, Muon, is_matrices=True)
    torch.testing.assert_close(there, left @ here @ right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_steps_are_those_of_torch_s_muon(shape: tuple[int, int]) -> None:
    """Torch's iterates in bfloat16, here until it has converged: two digits of an entry."""
    start, gradients = random(*shape), [random(*shape, seed=seed) for seed in (1, 2, 3)]
    converged = {"ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 40, "momentum": 0.9}
    theirs = stepped(
        start, gradients, torch.optim.Muon, adjust_lr_fn="match_rms_adamw", **converged
    )
    ours = stepped(start, gradients, Muon, is_matrices=True)
    assert (ours - start).abs().max() > 0.01
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_a_step_is_as_large_as_promised() -> None:
    moved = stepped(torch.zeros(64, 64), [random(64, 64)], Muon, is_matrices=True)
    assert moved.square().mean().sqrt().item() == pytest.approx(0.1 * RMS, rel=1e-5)


def test_kernels_are_matrices_and_other_parts_go_with_adamw() -> None:
    shapes = ((8, 4, 3, 3), (8,), (2, 16), (8, 3, 3, 3))
    kernel, bias, words, hint = (nn.Parameter(random(*shape)) for shape in shapes)
    config = read("--optimizer=muon", "--learning_rate=0.1")
    parts = {"unet": [kernel, bias], "tokens": [words], "hint_encoder": [hint]}
    optimizer = make_optimizer(config, parts, {name: config.lr_for(name) for name in parts})
    gradients = {p: random(*p.shape, seed=7) for p in (kernel, bias, words, hint)}
    before = {p: p.detach().clone() for p in gradients}
    for p, gradient in gradients.items():
        p.grad = gradient.clone()
    optimizer.step()
    for p, rate in ((bias, 0.1), (words, config.lr_for("tokens")), (hint, 0.1)):
        twin = nn.Parameter(before[p])
        twin.grad = gradients[p]
        torch.optim.AdamW([twin], lr=rate, weight_decay=0.0).step()
        assert torch.equal(p, twin)
    moved = (kernel - before[kernel]).flatten(1).detach()
    U, _, V = torch.linalg.svd(gradients[kernel].flatten(1), full_matrices=False)
    torch.testing.assert_close(moved, -0.1 * RMS * 6 * U @ V, atol=1e-6, rtol=0)  # 6 is sqrt(36)


def test_a_run_resumes_to_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "pictures")
    flags = {"optimizer": "muon", "learning_rate": 1e-2, "placeholder_token": "<dog>",
             "instance_prompt": "a <dog>"}  # fmt: skip
    train(tiny, images, tmp_path / "whole", max_train_steps=4, **flags)
    part = tmp_path / "part"
    train(tiny, images, part, max_train_steps=2, **flags)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 4}
    assert train(tiny, images, part, **again, **flags) == 0
    assert weights(part) == weights(tmp_path / "whole")
    train(tiny, images, tmp_path / "plain", max_train_steps=4, **{**flags, "optimizer": "adamw"})
    assert weights(part) != weights(tmp_path / "plain")

"""Two adapter sets blended on one base, and angles read from a folder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.peft_format.angles import saved_angles
from orthodiff.components.blend import load_blend
from orthodiff.components.compose import load_all
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from tests.laws import ROTATIONS
from tests.test_adapters import over
from tests.test_algebra import adapter_of


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(tiny)


def trained(base: Base, folder: Path, seed: int, method: Method | None = None) -> Path:
    """A folder with an adapter of the UNet that is not at its start."""
    generator = torch.Generator().manual_seed(seed)
    adapter = orthodiff.attach(base.denoiser, method or orthodiff.HRA(rank=2), generator=generator)
    for parameter in adapter.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    adapter.save(folder)
    adapter.detach()
    return folder


def weights(adapter_set: object) -> dict[str, torch.Tensor]:
    adapter = adapter_set.unet  # type: ignore[attr-defined]
    made = {name: layer.adapted_weight().detach() for name, layer in adapter.layers.items()}
    adapter_set.detach()  # type: ignore[attr-defined]
    return made


def test_a_blend_leads_from_the_first_to_the_second(base: Base, tmp_path: Path) -> None:
    folders = (trained(base, tmp_path / "a", 1), trained(base, tmp_path / "b", 2))
    before = {k: v.clone() for k, v in base.denoiser.state_dict().items()}
    first, second = (weights(load_all(base, [folder])) for folder in folders)
    start, half, end = (weights(load_blend(base, folders, share)) for share in (0.0, 0.5, 1.0))
    for name in first:
        torch.testing.assert_close(start[name], first[name], atol=2e-5, rtol=0)
        torch.testing.assert_close(end[name], second[name], atol=2e-5, rtol=0)
        # halfway is as far from both ends, and rotated, not averaged: rows keep their lengths
        to_first, to_second = (half[name] - first[name]).norm(), (half[name] - second[name]).norm()
        torch.testing.assert_close(to_first, to_second, atol=1e-3, rtol=1e-3)
        lengths = first[name].flatten(1).norm(dim=1)
        torch.testing.assert_close(half[name].flatten(1).norm(dim=1), lengths, atol=1e-4, rtol=1e-4)
    after = base.denoiser.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_strengths_hold_in_a_blend(base: Base, tmp_path: Path) -> None:
    folders = (trained(base, tmp_path / "a", 1), trained(base, tmp_path / "b", 2))
    plain = {k.removesuffix(".weight"): v for k, v in base.denoiser.state_dict().items()}
    for name, weight in weights(load_blend(base, folders, 0.0, strength=(0.0, 1.0))).items():
        torch.testing.assert_close(weight, plain[name], atol=2e-5, rtol=0)


def test_blends_that_cannot_be_leave_the_base_as_it_was(base: Base, tmp_path: Path) -> None:
    hra = trained(base, tmp_path / "hra", 1)
    oft = trained(base, tmp_path / "oft", 2, orthodiff.OFT(block_size=4))
    with pytest.raises(UserError, match="Compose them instead"):
        load_blend(base, (hra, oft), 0.5)
    with pytest.raises(UserError, match="from 0 to 1"):
        load_blend(base, (hra, hra), 1.5)
    with pytest.raises(UserError, match=r"adapter_config\.json"):
        load_blend(base, (hra, tmp_path), 0.5)
    assert not any("Adapted" in type(module).__name__ for module in base.denoiser.modules())


@over({name: ROTATIONS[name] for name in ("hra", "oft", "boft-scaled")})
def test_angles_of_a_folder_are_those_of_its_adapter(method: Method, tmp_path: Path) -> None:
    adapter = adapter_of(method, 3)
    adapter.save(tmp_path)
    angles = saved_angles(tmp_path)
    assert set(angles) == set(adapter.layers)
    for name, each in adapter.rotation_angles().items():
        torch.testing.assert_close(angles[name], each.flatten().float(), atol=2e-3, rtol=1e-3)


def test_an_adapter_that_does_not_rotate_has_no_angles(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lora does not rotate"):
        saved_angles(trained(base, tmp_path / "lora", 1, orthodiff.LoRA(rank=2)))

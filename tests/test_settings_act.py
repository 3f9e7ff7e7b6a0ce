"""Settings, switches and exports do what their help says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

import orthodiff
from orthodiff import control
from orthodiff.adapters import Method
from orthodiff.adapters.layers.solve import solve
from orthodiff.adapters.peft_format.method_format import WEIGHTS
from orthodiff.components import textual_inversion as tokens
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import Canny
from orthodiff.errors import UserError
from orthodiff.models import load_base
from orthodiff.ops.orthogonal import cayley, drop_blocks
from tests.laws import CASES, WIDTH, Stack, adapted, inputs
from tests.test_adapters import over
from tests.test_inject import shake, tiny_unet


@pytest.mark.parametrize("rank", [2, 8])
@pytest.mark.parametrize("strict", [False, True])
def test_hra_starts_as_kaiming_does(rank: int, strict: bool) -> None:
    """Uniform within 1 / sqrt(n) of zero, n the number of independent columns."""
    method = orthodiff.HRA(rank=rank, strict=strict)
    U = method.start(500, 4, generator=torch.Generator().manual_seed(0))["hra_u"]
    bound = 1 / math.sqrt(rank if strict else rank / 2)
    assert 0.98 * bound < U.max() <= bound
    assert -bound <= U.min() < -0.98 * bound
    assert abs(float(U.std()) - bound / math.sqrt(3)) < 0.05 * bound
    assert strict or torch.equal(U[:, ::2], U[:, 1::2])  # adjacent twins cancel


@pytest.mark.parametrize("block_share", [False, True])
@pytest.mark.parametrize("block_size", [4, 8])
def test_cofts_radius_is_eps_over_the_root_of_the_number_of_blocks(
    block_size: int, block_share: bool
) -> None:
    method = orthodiff.OFT(block_size=block_size, eps=0.3, block_share=block_share)
    count = 1 if block_share else WIDTH // block_size
    large = torch.randn(method.shapes(WIDTH, 1)["oft_R"], dtype=torch.float64)
    (blocks,) = method.prepare({"oft_R": large})
    norms = torch.linalg.matrix_norm(cayley(blocks))
    torch.testing.assert_close(norms, torch.full_like(norms, 0.3 / math.sqrt(count)))
    small = 1e-3 * large
    (blocks,) = method.prepare({"oft_R": small})
    (free,) = orthodiff.OFT(block_size=block_size).prepare({"oft_R": small})
    torch.testing.assert_close(blocks, free)


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_dropped_blocks_are_the_share_that_was_asked_for_in_one_random_factor(
    share: float,
) -> None:
    factors, count = 3, 2000
    torch.manual_seed(0)
    blocks = torch.zeros(factors, count, 2, 2)  # no identities among them
    drawn = set()
    for _ in range(20):
        dropped = (drop_blocks(blocks, share) == torch.eye(2)).all(-1).all(-1).sum(1)
        hit = dropped.nonzero().flatten().tolist()
        assert len(hit) == 1
        drawn.add(hit[0])
        # 2,000 draws: five standard deviations
        assert abs(int(dropped.sum()) - share * count) < 5 * math.sqrt(count * share * (1 - share))
    assert drawn == set(range(factors))


@pytest.mark.parametrize("strength", [0.5, -1.0, 0.0])
@pytest.mark.parametrize("other", [orthodiff.OFT(block_size=8), orthodiff.HRA(rank=4)], ids=str)
def test_a_butterflys_scale_goes_into_a_composition_at_its_strength(
    strength: float, other: Method
) -> None:
    method = orthodiff.BOFT(block_size=8, factors=1, output_scale=True)
    a, b = adapted(method, dtype=torch.float64)[1], adapted(other, dtype=torch.float64)[1]
    a.strength, b.strength = strength, 0.0
    scale = 1 + strength * (a.layers["second"].boft_s - 1)
    torch.testing.assert_close(a.layers["second"].scale(), scale)
    expected = a.layers["second"].adapted_weight()
    both = orthodiff.compose(a, b)
    torch.testing.assert_close(both.layers["second"].adapted_weight(), expected)


def test_a_butterflys_scale_is_interpolated_evenly() -> None:
    method = orthodiff.BOFT(block_size=8, factors=2, output_scale=True)
    a, b = (adapted(method, dtype=torch.float64)[1] for _ in range(2))
    for parameter in b.parameters():
        parameter.data *= -0.5
    expected = {n: 0.75 * a.layers[n].boft_s + 0.25 * b.layers[n].boft_s for n in a.layers}
    between = orthodiff.interpolate(a, b, 0.25)
    for name, scale in expected.items():
        torch.testing.assert_close(between.layers[name].boft_s.detach(), scale.detach())


@over({name: CASES[name] for name in ("hra", "oft", "boft-scaled", "lora")})
def test_merging_follows_moves_and_casts_and_rounds_once(method: Method) -> None:
    model, adapter = adapted(method, dtype=torch.bfloat16)
    original = model.first.base_layer.weight.clone()
    exact, wide = adapted(method)
    exact.first.base_layer.weight.data = original.float()
    adapter.merge()
    merged = model.first.base_layer.weight
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, wide.layers["first"].adapted_weight().bfloat16())
    model.double()
    adapter.unmerge()
    assert torch.equal(model.first.base_layer.weight, original.double())
    adapter.merge()
    model.to("meta")  # another device, wherever the tests run
    adapter.unmerge()
    assert model.first.base_layer.weight.device.type == "meta"
    assert model.first.base_layer.weight.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@over({name: CASES[name] for name in ("hra", "oft", "boft-scaled", "lora")})
def test_folders_in_half_precision_are_trained_in_float32(
    method: Method, dtype: torch.dtype, tmp_path: Path
) -> None:
    adapted(method)[1].save(tmp_path)
    half = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(half, tmp_path / WEIGHTS)
    model = Stack(dtype)
    adapter = orthodiff.load(model, tmp_path)
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    model(inputs(3, dtype)).sum().backward()
    assert {p.grad.dtype for p in adapter.parameters()} == {torch.float32}


def folder_of(method: Method, tiny: Path, folder: Path) -> Path:
    """A moved adapter of the tiny base's UNet."""
    adapter = orthodiff.attach(load_base(str(tiny)).unet, method, targets=("to_q", "conv_in"))
    shake(adapter)
    adapter.save(folder, base=str(tiny))
    return folder


@pytest.mark.parametrize("max_rank", [1, 3])
@pytest.mark.parametrize("format", ["lora", "kohya"])
def test_an_export_keeps_to_its_largest_rank(
    format: str, max_rank: int, tiny: Path, tmp_path: Path
) -> None:
    folder = folder_of(orthodiff.OFT(block_size=4), tiny, tmp_path / "adapter")
    out = tmp_path / "out.safetensors"
    written = orthodiff.export(folder, out, format=format, tolerance=0.0, max_rank=max_rank)
    assert set(written.ranks.values()) == {max_rank}
    assert all(error > 0.01 for error in written.errors.values())
    down = [t for n, t in load_file(out).items() if "lora_A" in n or "lora_down" in n]
    assert {len(tensor) for tensor in down} == {max_rank}
    whole = orthodiff.export(folder, tmp_path / "whole.safetensors", format=format, tolerance=0.0)
    assert min(whole.ranks.values()) > max_rank


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("format", ["lora", "kohya", "diff", "single", "merged"])
@pytest.mark.filterwarnings("ignore")  # diffusers' about casting
def test_an_export_is_in_the_precision_that_was_asked_for(
    format: str, dtype: torch.dtype, tiny: Path, tmp_path: Path
) -> None:
    folder = folder_of(orthodiff.HRA(rank=2), tiny, tmp_path / "adapter")
    out = tmp_path / ("out" if format == "merged" else "out.safetensors")
    orthodiff.export(folder, out, format=format, dtype=dtype)
    (file,) = (out / "unet").glob("*.safetensors") if format == "merged" else [out]
    precisions = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
    assert precisions == {dtype}


def test_a_set_is_merged_whole_or_not_at_all(tiny: Path) -> None:
    base = load_base(str(tiny))
    method = orthodiff.HRA(rank=2)
    text = base.texts[0].model
    name = next(n for n, m in text.named_modules() if n.endswith("q_proj"))
    parametrizations.orthogonal(text.get_submodule(name))
    adapters = {
        "unet": orthodiff.attach(base.unet, method),
        "text_encoder": orthodiff.attach(text, method, targets=orthodiff.TEXT_ATTENTION),
    }
    adapter_set = AdapterSet(base, adapters)
    with pytest.raises(UserError, match=f"Layer {name}: The layer computes its weight"):
        adapter_set.merge()
    assert not any(adapter.merged for adapter in adapters.values())
    adapters["text_encoder"].detach()
    AdapterSet(base, {"unet": adapters["unet"]}).merge()
    assert adapters["unet"].merged


def test_new_words_made_in_inference_mode_are_trained(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    with torch.inference_mode():
        words = tokens.create(base, "<new>", like="dog")
    words.save(tmp_path)
    for learned in (words, None):
        if learned is None:
            with torch.inference_mode():
                learned = tokens.load(base, tmp_path)
        text = base.texts[0]
        ids = text.tokenizer("a <new>", return_tensors="pt").input_ids
        text.model(ids)[0].sum().backward()
        assert all(rows.grad is not None for rows in learned.parameters())
        learned.detach()


def test_a_control_made_in_inference_mode_is_trained(tmp_path: Path) -> None:
    unet = tiny_unet()
    with torch.inference_mode():
        steered = control.attach(unet, Canny(), factor=8)
    steered.save(tmp_path)
    steered.detach()
    with torch.inference_mode():
        loaded = control.load(unet, tmp_path)
    for encoder in (steered.encoder, loaded.encoder):
        encoder(torch.rand(1, 3, 64, 64)).sum().backward()
        assert all(p.grad is not None for p in encoder.parameters())


def test_factors_that_outlive_a_pass_are_used_for_no_gradients() -> None:
    """A layer called alone after a pass without gradients learns all the same."""
    from orthodiff.ops.held import parameters_held

    model, adapter = adapted(CASES["hra"])
    with torch.no_grad(), parameters_held():
        model(inputs(3))
        layer = adapter.layers["first"]
        assert layer.is_solved
    layer(inputs(3)).sum().backward()
    assert layer.hra_u.grad is not None
    model.zero_grad()
    factors = solve(adapter.method, layer.adapter_parameters())
    assert all(factor.requires_grad for factor in factors)


def test_settings_that_a_folder_tells_are_those_it_was_trained_with(tmp_path: Path) -> None:
    method = orthodiff.OFT(block_size=8, eps=0.25, dropout=0.5)
    adapted(method)[1].save(tmp_path)
    assert orthodiff.load(Stack(), tmp_path).method == method
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (config["coft"], config["eps"], config["module_dropout"]) == (True, 0.25, 0.5)
    assert isinstance(Stack().first, nn.Linear)

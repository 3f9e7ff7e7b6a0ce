"""Finding layers, attaching to real diffusers and transformers models, and taking off again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, ViTConfig, ViTModel

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.targets import adaptable_layers
from orthodiff.adapters.targets import find_targets as find_among
from orthodiff.errors import UserError
from tests.laws import CASES
from tests.test_adapters import over


def tiny_unet(dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return unet if dtype == torch.float32 else unet.to(dtype)


def predict(unet: nn.Module, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, 8, 8, generator=generator)
    text = torch.randn(batch, 5, 32, generator=generator)
    dtype = next(unet.parameters()).dtype
    return unet(latents.to(dtype), 7, text.to(dtype)).sample


def find_targets(unet: nn.Module, targets: str | tuple[str, ...]) -> list[str]:
    return find_among(adaptable_layers(unet), targets)


def shake(adapter: orthodiff.Adapter) -> None:
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


@over(CASES)
def test_a_unet_is_adapted_merged_and_given_back(method: Method) -> None:
    unet = tiny_unet()
    before, modules = predict(unet).detach(), dict(unet.named_modules())
    weights = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    adapter = orthodiff.attach(unet, method)
    assert len(adapter.layers) == 4 * 8
    assert [p for p in unet.parameters() if p.requires_grad] == adapter.parameters()
    shake(adapter)
    apart = predict(unet).detach()
    assert (apart - before).abs().max() > 0.02
    adapter.merge()
    torch.testing.assert_close(predict(unet).detach(), apart, rtol=0, atol=5e-6)
    adapter.detach()
    assert all(module is modules[name] for name, module in unet.named_modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in unet.state_dict().items())
    assert torch.equal(predict(unet).detach(), before)


@over(CASES)
def test_gradient_checkpointing_gives_the_same_gradients(method: Method) -> None:
    gradients = []
    for checkpointing in (False, True):
        unet = tiny_unet().train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        adapter = orthodiff.attach(unet, method)
        shake(adapter)
        loss = predict(unet).square().mean() + predict(unet, 1).square().mean()
        loss.backward()
        gradients.append([p.grad for p in adapter.parameters()])
    # The same operations in the same order, but two passes are summed in another order.
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


@over(CASES)
def test_passes_steps_and_single_layers_in_any_order(method: Method) -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, method)
    shake(adapter)
    name, layer = next(iter(adapter.layers.items()))
    rows = torch.randn(3, layer.base_layer.in_features)
    for _ in range(2):
        predict(unet).square().mean().backward()
        layer(rows).square().mean().backward()  # type: ignore[operator]
        with torch.no_grad():
            predict(unet)
            for parameter in adapter.parameters():
                parameter -= 0.1 * parameter.grad
        stale = layer(rows)  # type: ignore[operator]
        adapter.merge()
        torch.testing.assert_close(layer(rows), stale, rtol=0, atol=5e-6)  # type: ignore[operator]
        adapter.unmerge()
    assert name in adapter.layers


@over(CASES)
def test_shared_solves_give_each_layer_its_own_gradient(method: Method) -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, method)
    shake(adapter)
    together = torch.autograd.grad(predict(unet).square().sum(), adapter.parameters())
    alone = torch.autograd.grad(_without_sharing(unet, adapter), adapter.parameters())
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def _without_sharing(unet: nn.Module, adapter: orthodiff.Adapter) -> Tensor:
    adapter._shared.remove()
    return predict(unet).square().sum()


def test_half_precision_unet_keeps_float32_parameters() -> None:
    unet = tiny_unet(torch.bfloat16)
    adapter = orthodiff.attach(unet, orthodiff.HRA(rank=4))
    shake(adapter)
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    assert predict(unet).dtype == torch.bfloat16
    exact = tiny_unet()
    shake(orthodiff.attach(exact, orthodiff.HRA(rank=4)))
    # bfloat16 keeps 8 bits through some forty layers; outputs are of size one.
    torch.testing.assert_close(predict(unet).float(), predict(exact), rtol=0, atol=0.1)


def test_a_text_encoder_is_adapted_by_the_same_call() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=50, num_attention_heads=4, **sizes)).eval()
    tokens = torch.arange(10)[None]
    before = text(tokens).last_hidden_state
    adapter = orthodiff.attach(text, orthodiff.HRA(), targets=orthodiff.TEXT_ATTENTION)
    torch.testing.assert_close(text(tokens).last_hidden_state, before, rtol=0, atol=1e-5)
    assert len(adapter.layers) == 8


def language_model() -> tuple[nn.Module, Tensor]:
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaModel(config), torch.arange(10)[None]


def vision_transformer() -> tuple[nn.Module, Tensor]:
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=8,
    )
    return ViTModel(config), torch.randn(1, 3, 16, 16)


@pytest.mark.parametrize("make", [language_model, vision_transformer])
def test_other_transformers_are_adapted_trained_merged_and_saved(
    make: Callable[[], tuple[nn.Module, Tensor]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    before = model(inputs).last_hidden_state.detach()
    twin = copy.deepcopy(model)
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=4), targets=orthodiff.ALL_LINEAR)
    torch.testing.assert_close(model(inputs).last_hidden_state, before, rtol=0, atol=1e-5)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = (model(inputs).last_hidden_state - before.roll(1, dims=1)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    adapter.save(tmp_path / "adapter")
    adapter.merge()
    orthodiff.load(twin, tmp_path / "adapter")
    output = model(inputs).last_hidden_state
    torch.testing.assert_close(twin(inputs).last_hidden_state, output, rtol=0, atol=1e-5)


def test_targets_are_names_or_patterns_in_the_models_order() -> None:
    unet = tiny_unet()
    every = find_targets(unet, orthodiff.ATTENTION)
    assert every == [n for n, _ in unet.named_modules() if n in set(every)]
    assert len(find_targets(unet, "attn2.to_k")) == 4
    assert find_targets(unet, "down_blocks.*.attn1.to_q") == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    ]
    assert find_targets(unet, every[3]) == [every[3]]
    wide = find_targets(unet, orthodiff.ATTENTION_AND_GEGLU)
    assert {n for n in wide if n not in every} == {n for n in wide if n.endswith("ff.net.0.proj")}
    linear = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear)]
    assert find_targets(unet, orthodiff.ALL_LINEAR) == linear


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ("to_qq", "'to_qq' is among .* but the model has no linear or .* Did you mean .*to_q"),
        (("to_q", "zzzzzzzz"), "'zzzzzzzz' is among .* but the model has no linear or"),
        ("attn1", "'attn1' is among .* but the model has no linear or"),
        ("norm1", "'norm1' is among .* but the model has no linear or"),
        ((), "`targets` is empty"),
    ],
)
def test_refuses_unknown_targets(targets: str, sentence: str) -> None:
    unet = tiny_unet()
    with pytest.raises(UserError, match=sentence):
        orthodiff.attach(unet, orthodiff.HRA(), targets=targets)
    assert all(p.requires_grad for p in unet.parameters())


def test_refuses_a_second_adapter() -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, orthodiff.HRA())
    with pytest.raises(UserError, match="adapted already"):
        orthodiff.attach(unet, orthodiff.HRA())
    adapter.detach()
    orthodiff.attach(unet, orthodiff.OFT(block_size=8))


def test_state_goes_to_another_handle_or_not_at_all() -> None:
    adapter = orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4))
    shake(adapter)
    other = orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4))
    other.load_state_dict(adapter.state_dict())
    assert all(map(torch.equal, other.parameters(), adapter.parameters()))
    name, tensor = next(iter(adapter.state_dict().items()))
    for state, sentence in (
        ({}, "lacks"),
        ({**adapter.state_dict(), "more": tensor}, "has more"),
        ({**adapter.state_dict(), name: tensor[1:]}, "of shape"),
        ({**adapter.state_dict(), name: tensor * torch.inf}, "not finite"),
    ):
        with pytest.raises(UserError, match=sentence):
            other.load_state_dict(state)
    assert all(map(torch.equal, other.parameters(), adapter.parameters()))
    other.merge()
    with pytest.raises(UserError, match="merged"):
        other.load_state_dict(adapter.state_dict())


def test_convolutions_are_adapted_where_they_are_named(tmp_path: Path) -> None:
    unet = tiny_unet()
    before = predict(unet)
    named = ("conv1", "conv_in", "downsamplers.0.conv", "proj_in", "to_q")
    adapter = orthodiff.attach(unet, orthodiff.HRA(rank=4), targets=named)
    torch.testing.assert_close(predict(unet), before, rtol=0, atol=1e-5)
    shake(adapter)
    apart = predict(unet)
    adapter.save(tmp_path / "adapter")
    adapter.merge()
    torch.testing.assert_close(predict(unet), apart, rtol=0, atol=1e-5)
    twin = tiny_unet()
    orthodiff.load(twin, tmp_path / "adapter")
    assert torch.equal(predict(twin), apart)


@pytest.mark.parametrize("option", [{"groups": 2}, {"padding_mode": "circular"}])
def test_lora_refuses_convolutions_that_peft_gets_wrong(option: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, **option))
    with pytest.raises(UserError, match="Layer 0: The convolution has"):
        orthodiff.attach(model, orthodiff.LoRA(rank=4), targets="0")
    assert type(model[0]) is nn.Conv2d

"""Adapter folders: ours and PEFT's read each other, and damaged ones are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from peft.tuners.boft import layer as peft_boft
from safetensors.torch import load_file, save_file

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.peft_format.method_format import CONFIG, WEIGHTS
from orthodiff.adapters.peft_format.read import read_adapter_metadata
from orthodiff.errors import UserError
from tests.laws import CASES
from tests.test_adapters import over
from tests.test_inject import predict, shake, tiny_unet


@pytest.fixture(autouse=True)
def peft_with_butterflies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give PEFT the kernel it would compile with CUDA; without it, it trains m = 1."""

    def block_diagonal(blocks: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.stack([torch.block_diag(*factor) for factor in blocks]),)

    monkeypatch.setattr(peft_boft, "_FBD_CUDA", SimpleNamespace(forward=block_diagonal))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a saved adapter of moved parameters."""
    adapter = orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4))
    shake(adapter)
    adapter.save(tmp_path / "adapter", base="some/base")
    return tmp_path / "adapter"


@over(CASES)
def test_peft_loads_our_folder_and_gives_the_same_outputs(method: Method, tmp_path: Path) -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, method)
    shake(adapter)
    adapter.save(tmp_path / "adapter", base="some/base")
    theirs = peft.PeftModel.from_pretrained(tiny_unet(), tmp_path / "adapter")
    # float32 through a UNet of some forty layers, computed by another route.
    torch.testing.assert_close(predict(theirs), predict(unet), rtol=0, atol=1e-5)


PEFT_CONFIGS: dict[str, Any] = {
    "hra": lambda t: peft.HRAConfig(r=4, target_modules=t, init_weights=False),
    "hra-odd": lambda t: peft.HRAConfig(r=3, target_modules=t, init_weights=False),
    "hra-strict": lambda t: peft.HRAConfig(
        r=4, apply_GS=True, target_modules=t, init_weights=False
    ),
    "oft": lambda t: peft.OFTConfig(
        oft_block_size=8, use_cayley_neumann=False, target_modules=t, init_weights=False
    ),
    "oft-blocks": lambda t: peft.OFTConfig(
        r=4,
        oft_block_size=0,
        use_cayley_neumann=False,
        module_dropout=0.2,
        target_modules=t,
        init_weights=False,
    ),
    "oft-shared-constrained": lambda t: peft.OFTConfig(
        oft_block_size=8,
        block_share=True,
        coft=True,
        eps=0.5,
        use_cayley_neumann=False,
        target_modules=t,
        init_weights=False,
    ),
    "boft-blocks": lambda t: peft.BOFTConfig(
        boft_block_size=0,
        boft_block_num=8,
        boft_n_butterfly_factor=2,
        boft_dropout=0.1,
        target_modules=t,
        init_weights=False,
    ),
    "boft": lambda t: peft.BOFTConfig(
        boft_block_size=8, boft_n_butterfly_factor=3, target_modules=t, init_weights=False
    ),
    "lora": lambda t: peft.LoraConfig(
        r=4, lora_alpha=10, target_modules=t, init_lora_weights=False
    ),
    "rslora": lambda t: peft.LoraConfig(
        r=4, lora_alpha=10, use_rslora=True, target_modules=t, init_lora_weights=False
    ),
}


@pytest.mark.parametrize("make", PEFT_CONFIGS.values(), ids=PEFT_CONFIGS.keys())
def test_we_load_pefts_folder_and_give_the_same_outputs(
    make: Callable[[list[str]], peft.PeftConfig], tmp_path: Path
) -> None:
    theirs = peft.get_peft_model(tiny_unet().eval(), make(list(orthodiff.ATTENTION))).eval()
    theirs.save_pretrained(tmp_path)
    unet = tiny_unet().eval()
    adapter = orthodiff.load(unet, tmp_path)
    assert len(adapter.layers) == 32
    torch.testing.assert_close(predict(unet), predict(theirs), rtol=0, atol=1e-5)
    theirs.merge_adapter()
    for name, layer in adapter.layers.items():
        weight = theirs.base_model.model.get_submodule(name).get_base_layer().weight
        torch.testing.assert_close(layer.adapted_weight(), weight, rtol=0, atol=2e-6)
    adapter.save(tmp_path / "again")
    again = orthodiff.load(tiny_unet(), tmp_path / "again")
    assert again.method == adapter.method
    assert all(map(torch.equal, again.parameters(), adapter.parameters()))


@pytest.mark.parametrize(("name", "share"), [("oft-blocks", 0.2), ("boft-blocks", 0.1)])
def test_pefts_dropout_is_kept(name: str, share: float, tmp_path: Path) -> None:
    peft.get_peft_model(tiny_unet(), PEFT_CONFIGS[name](["to_q"])).save_pretrained(tmp_path)
    method = orthodiff.load(tiny_unet(), tmp_path).method
    assert method.settings()["dropout"] == share
    assert share in method.peft_config().values()


def test_pefts_neumann_form_turns_the_same_way_here(tmp_path: Path) -> None:
    config = peft.OFTConfig(oft_block_size=8, use_cayley_neumann=True, target_modules=["to_q"])
    theirs = peft.get_peft_model(tiny_unet(), config)
    for name, parameter in theirs.named_parameters():
        if "oft_R" in name:
            parameter.data.normal_(std=0.01)
    theirs.save_pretrained(tmp_path)
    unet = tiny_unet()
    before = predict(unet)
    with pytest.warns(UserWarning, match=r"truncated Neumann series.* exact rotation"):
        orthodiff.load(unet, tmp_path)
    moved = (predict(unet) - before).abs().max().item()
    # Five terms leave out powers from the fourth on: 2 ||Q||^4 with ||Q|| near 0.05, next to a turn
    # of 2 ||Q||.
    assert (predict(unet) - predict(theirs)).abs().max().item() < 1e-3 * moved


def test_a_butterfly_that_peft_cut_to_one_factor_is_told(tmp_path: Path) -> None:
    config = peft.BOFTConfig(boft_block_size=8, target_modules=["to_q"], init_weights=False)
    theirs = peft.get_peft_model(tiny_unet(), config)
    theirs.save_pretrained(tmp_path)
    edit(tmp_path, boft_n_butterfly_factor=2)
    unet = tiny_unet()
    with pytest.warns(UserWarning, match="2 butterfly factors but holds 1"):
        orthodiff.load(unet, tmp_path)
    torch.testing.assert_close(predict(unet), predict(theirs), rtol=0, atol=1e-5)


def test_the_recipe_is_in_the_header(tmp_path: Path) -> None:
    adapter = orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4, regularization=0.01))
    adapter.save(tmp_path / "a", base="some/base", metadata={"instance_prompt": "a photo of sks"})
    recipe = read_adapter_metadata(tmp_path / "a")
    assert recipe["base"] == "some/base"
    assert recipe["instance_prompt"] == "a photo of sks"
    assert recipe["orthodiff.method"] == "hra"
    assert recipe["modelspec.sai_model_spec"] == "1.0.1"
    assert recipe["modelspec.architecture"].endswith("/hra")
    assert recipe["modelspec.trigger_phrase"] == "a photo of sks"
    assert json.loads(recipe["orthodiff.settings"])["regularization"] == 0.01
    assert (
        json.loads((tmp_path / "a" / CONFIG).read_text())["base_model_name_or_path"] == "some/base"
    )


def test_saving_again_replaces_the_two_files_and_nothing_else(folder: Path) -> None:
    (folder / "config.yaml").write_text("kept")
    adapter = orthodiff.load(tiny_unet(), folder)
    shake(adapter)
    adapter.merge()
    adapter.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, WEIGHTS, "config.yaml"]
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]
    again = orthodiff.load(tiny_unet(), folder)
    assert all(map(torch.equal, again.parameters(), adapter.parameters()))


def test_a_failed_save_leaves_the_old_adapter_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    adapter = orthodiff.load(tiny_unet(), folder)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(OSError, match="no space"):
            adapter.save(target)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]


def test_refuses_to_save_over_a_file(folder: Path) -> None:
    adapter = orthodiff.load(tiny_unet(), folder)
    with pytest.raises(UserError, match="is a file"):
        adapter.save(folder / CONFIG)


def edit(folder: Path, **entries: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | entries))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor], str], object]) -> None:
    """Change the tensors; the second argument is the first one's name."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors, min(tensors))
    save_file(tensors, folder / WEIGHTS)


def settings(folder: Path, text: str) -> None:
    metadata = {"orthodiff.method": "hra", "orthodiff.settings": text}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata=metadata)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "has no adapter_config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "no adapter_model.safetensors.*run code"),
    "pickle": (
        lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"),
        "no adapter_model.safetensors.*run code",
    ),
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]),
        "truncated or not safetensors",
    ),
    "not safetensors": (lambda f: (f / WEIGHTS).write_bytes(b"PK" * 99), "not safetensors"),
    "not json": (lambda f: (f / CONFIG).write_text("{"), "not readable JSON"),
    "a list": (lambda f: (f / CONFIG).write_text("[]"), "not readable JSON"),
    "binary": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "not readable JSON"),
    "deep": (lambda f: (f / CONFIG).write_text("[" * 10**6), "not readable JSON"),
    "type": (lambda f: edit(f, peft_type="VERA"), "peft_type 'VERA', but .* only HRA, OFT"),
    "no type": (lambda f: edit(f, peft_type=["HRA"]), "peft_type"),
    "other type": (lambda f: edit(f, peft_type="BOFT"), "uses PEFT's `r`"),
    "modules": (lambda f: edit(f, modules_to_save=["conv_in"]), "`modules_to_save`"),
    "bias": (lambda f: edit(f, bias="all"), "biases"),
    "rank": (lambda f: (settings(f, "{}"), edit(f, r=6)), r"\(32, 4\), .* needs \(32, 6\)"),
    "rank text": (lambda f: (settings(f, "{}"), edit(f, r="4")), "`rank` is '4'"),
    "settings": (lambda f: settings(f, "[1"), "settings cannot be read"),
    "settings list": (lambda f: settings(f, "[]"), "settings cannot be read"),
    "empty": (lambda f: rewrite(f, lambda t, k: t.clear()), "is empty"),
    "nan": (lambda f: rewrite(f, lambda t, k: t[k].fill_(torch.nan)), "not finite"),
    "whole numbers": (lambda f: rewrite(f, lambda t, k: t.update({k: t[k].int()})), "type .*int32"),
    "shape": (lambda f: rewrite(f, lambda t, k: t.update({k: t[k][:9]})), r"shape \(9, 4\)"),
    "missing": (
        lambda f: rewrite(f, lambda t, k: t.update({f"{k}_x": t.pop(k)})),
        "lacks .*hra_u",
    ),
    "extra": (lambda f: rewrite(f, lambda t, k: t.update({f"{k}.x": t[k] + 0})), "has .*hra_u.x"),
    "other model": (
        lambda f: rewrite(f, lambda t, k: t.update({"base_model.model.a.hra_u": t.pop(k)})),
        "no such layer",
    ),
    "attribute": (
        lambda f: rewrite(f, lambda t, k: t.update({"forward.__globals__.hra_u": t.pop(k)})),
        "no such layer",
    ),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_folders_are_told_in_one_sentence_and_change_nothing(
    damage: Callable[[Path], object], sentence: str, folder: Path
) -> None:
    damage(folder)
    unet = tiny_unet()
    modules = dict(unet.named_modules())
    with pytest.raises(UserError, match=sentence) as error:
        orthodiff.load(unet, folder)
    assert "\n" not in str(error.value)
    assert dict(unet.named_modules()) == modules
    assert all(p.requires_grad for p in unet.parameters())


def test_an_adapter_of_another_base_names_the_layer_and_both_shapes(folder: Path) -> None:
    unet = tiny_unet()
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q = torch.nn.Linear(48, 64)
    with pytest.raises(UserError, match=r"Layer mid_block.*to_q: .*\(64, 4\).*\(48, 4\)"):
        orthodiff.load(unet, folder)


@over({name: CASES[name] for name in ("oft", "boft-scaled")})
def test_a_width_that_does_not_fit_names_the_layer_and_both_shapes(
    method: Method, tmp_path: Path
) -> None:
    orthodiff.attach(tiny_unet(), method).save(tmp_path / "adapter")
    unet = tiny_unet()
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q = torch.nn.Linear(45, 64)
    sentence = r"Layer mid_block.*to_q: .*_R of shape \(.*\), but .* \(64, 45\)"
    with pytest.raises(UserError, match=sentence):
        orthodiff.load(unet, tmp_path / "adapter")


CONVOLUTIONS: dict[str, tuple[str, ...]] = {
    "hra": ("conv1", "conv_in", "downsamplers.0.conv", "proj_in", "to_q"),
    "oft": ("proj_in", "conv_shortcut", "to_q"),
    "boft-scaled": ("conv1", "downsamplers.0.conv", "proj_in", "to_q"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_go_to_peft_and_back(name: str, tmp_path: Path) -> None:
    unet = tiny_unet()
    before = predict(unet)
    adapter = orthodiff.attach(unet, CASES[name], targets=CONVOLUTIONS[name])
    torch.testing.assert_close(predict(unet), before, rtol=0, atol=1e-5)
    shake(adapter)
    apart = predict(unet)
    adapter.save(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(tiny_unet(), tmp_path / "ours")
    torch.testing.assert_close(predict(theirs), apart, rtol=0, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    twin = tiny_unet()
    loaded = orthodiff.load(twin, tmp_path / "theirs")
    torch.testing.assert_close(predict(twin), apart, rtol=0, atol=1e-5)
    theirs.merge_adapter()
    for layer_name, layer in loaded.layers.items():
        weight = theirs.base_model.model.get_submodule(layer_name).get_base_layer().weight
        torch.testing.assert_close(layer.adapted_weight(), weight, rtol=0, atol=2e-6)


DIFFERENT: dict[str, tuple[str, dict[str, Any]]] = {
    "patches": ("oft", {}),
    "dilated": ("hra", {"dilation": 2}),
    "circular": ("boft-one-factor", {"padding_mode": "circular"}),
    "oblong": ("hra", {"stride": (1, 2)}),
}


@pytest.mark.parametrize(("name", "settings"), DIFFERENT.values(), ids=DIFFERENT.keys())
@pytest.mark.filterwarnings("ignore")
def test_convolutions_that_peft_runs_otherwise_are_kept_from_it(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(16, 8, 3, padding=1, **settings))

    method, pixels = CASES[name], torch.randn(1, 16, 8, 8)
    adapter = orthodiff.attach(model(), method, targets="0")
    shake(adapter)
    adapter.save(tmp_path / "ours")
    twin = model()
    assert orthodiff.load(twin, tmp_path / "ours").method == method
    assert torch.equal(twin(pixels), adapter.model(pixels))
    with pytest.raises((KeyError, ValueError)):
        peft.PeftModel.from_pretrained(model(), tmp_path / "ours")
    edit(tmp_path / "ours", peft_type=method.peft_type)
    turned = peft.PeftModel.from_pretrained(model(), tmp_path / "ours")(pixels)
    same = turned.shape == twin(pixels).shape
    assert not same or (turned - twin(pixels)).abs().max() > 0.01
    with pytest.raises(UserError, match=r"Layer 0: PEFT's .* does not rotate"):
        orthodiff.load(model(), tmp_path / "ours")

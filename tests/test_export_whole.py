"""Whole bundles and models of Stable Diffusion 1, 2 and XL, as diffusers shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

import orthodiff
from orthodiff.components import textual_inversion as tokens
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError
from orthodiff.export.weight_delta import Contents
from orthodiff.models import load_base
from tests.test_inject import shake
from tests.tiny import TINY_UNET, make_tiny_xl

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' about formats of its own

KINDS = ("sd1", "sd2", "xl")
TEXTS = ("text_encoder", "text_encoder_2")
LAYERS = (*orthodiff.ATTENTION, "ff.net.0.proj", "proj_in")


def pipeline_class(kind: str) -> Any:
    return StableDiffusionXLPipeline if kind == "xl" else StableDiffusionPipeline


def make_tiny_v2(tiny: Path, folder: Path) -> Path:
    """Write a folder as Stable Diffusion 2's: OpenCLIP's activation, linear projections."""
    shutil.copytree(tiny, folder)
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "gelu"}))
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**TINY_UNET, use_linear_projection=True)
    unet.save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module")
def bases(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "sd1": tiny,
        "sd2": make_tiny_v2(tiny, folder / "sd2"),
        "xl": make_tiny_xl(folder / "xl"),
    }


@pytest.fixture(scope="module")
def bundles(
    bases: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[Path, Tensor]]:
    """Return for every kind a folder with adapters of UNet and text encoders, and an image."""
    found = {}
    for kind in KINDS:
        folder, pipeline = tmp_path_factory.mktemp(kind) / "adapter", opened(kind, bases[kind])
        before = draw_image(pipeline)
        base = str(bases[kind])
        adapter = orthodiff.attach(pipeline.unet, orthodiff.HRA(rank=4), targets=LAYERS)
        shake(adapter)
        adapter.save(folder, base=base, metadata={"instance_prompt": "a photo of sks dog"})
        for name in TEXTS:
            if model := getattr(pipeline, name, None):
                text = orthodiff.attach(
                    model, orthodiff.HRA(rank=4), targets=orthodiff.TEXT_ATTENTION
                )
                shake(text)
                text.save(folder / name, base=base)
        found[kind] = folder, draw_image(pipeline)
        assert (found[kind][1] - before).abs().max() > 0.01
    return found


def opened(kind: str, folder: Path) -> Any:
    pipeline = pipeline_class(kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_image(pipeline: Any, **settings: Any) -> Tensor:
    """Return one image (1, 32, 32, 3) in [0, 1] of two steps."""
    settings = {"num_inference_steps": 2, "guidance_scale": 2.0, **settings}
    generator = torch.Generator().manual_seed(1)
    made = pipeline("a photo of sks dog", generator=generator, output_type="np", **settings)
    return torch.from_numpy(made.images)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["lora", "kohya"])
def test_diffusers_loads_the_lora_of_a_bundle(
    kind: str, format: str, bases: Any, bundles: Any, tmp_path: Path
) -> None:
    folder, expected = bundles[kind]
    written = orthodiff.export(folder, tmp_path / "out.safetensors", format=format)
    parts = {"unet", *(TEXTS if kind == "xl" else TEXTS[:1])}
    assert {name.partition(".")[0] for name in written.ranks} == parts
    pipeline = opened(kind, bases[kind])
    pipeline.load_lora_weights(tmp_path, weight_name="out.safetensors")
    torch.testing.assert_close(draw_image(pipeline), expected, rtol=0, atol=1e-4)


def test_kohya_names_are_those_of_its_trainer(bundles: Any, tmp_path: Path) -> None:
    names = {}
    for kind in KINDS:
        orthodiff.export(bundles[kind][0], tmp_path / f"{kind}.safetensors", format="kohya")
        names[kind] = {n.partition(".")[0] for n in load_file(tmp_path / f"{kind}.safetensors")}
    block = "transformer_blocks_0_attn1_to_q"
    assert f"lora_unet_down_blocks_0_attentions_0_{block}" in names["sd1"]
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj" in names["sd1"]
    # The second level follows conv_in, one layer and its downsampler.
    assert f"lora_unet_input_blocks_3_1_{block}" in names["xl"]
    for number in (1, 2):
        assert f"lora_te{number}_text_model_encoder_layers_0_self_attn_q_proj" in names["xl"]


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_the_single_file(
    kind: str, bases: Any, bundles: Any, tmp_path: Path
) -> None:
    folder, expected = bundles[kind]
    orthodiff.export(folder, tmp_path / "whole.safetensors", format="single")
    pipeline = pipeline_class(kind).from_single_file(
        str(tmp_path / "whole.safetensors"), config=str(bases[kind]), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    torch.testing.assert_close(draw_image(pipeline), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd2", "xl"])
def test_a_merged_folder_has_all_parts(kind: str, bundles: Any, tmp_path: Path) -> None:
    folder, expected = bundles[kind]
    written = orthodiff.export(folder, tmp_path / "merged", format="merged")
    assert not written.left_out
    torch.testing.assert_close(
        draw_image(opened(kind, tmp_path / "merged")), expected, rtol=0, atol=1e-4
    )


def test_a_learned_word_leaves_the_base_its_own_words(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    parts = {
        "unet": orthodiff.attach(base.unet, orthodiff.HRA(rank=2)),
        "text_encoder": orthodiff.attach(
            base.text_encoder, orthodiff.HRA(rank=2), targets=orthodiff.TEXT_ATTENTION
        ),
        "tokens": tokens.create(base, "<sks>", like="dog"),
    }
    AdapterSet(base, parts).save(tmp_path / "adapter", base=str(tiny))
    written = orthodiff.export(tmp_path / "adapter", tmp_path / "merged", format="merged")
    assert written.left_out == ("tokens",)
    before, after = (
        load_base(str(folder)).text_encoder.get_input_embeddings().weight
        for folder in (tiny, tmp_path / "merged")
    )
    assert torch.equal(before, after)
    orthodiff.export(tmp_path / "adapter", tmp_path / "one.safetensors", format="single")
    names = load_file(tmp_path / "one.safetensors")
    assert any(name.endswith("token_embedding.weight") for name in names)


def test_a_foreign_base_is_told_and_a_hostile_one_refused(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    adapter = orthodiff.attach(base.unet, orthodiff.HRA(rank=2))
    for name, seen in (("own", base.fingerprint("unet")), ("other", "0" * 64)):
        adapter.save(tmp_path / name, base=str(tiny), metadata={"base_sha256": seen})
        written = orthodiff.export(tmp_path / name, tmp_path / f"{name}.safetensors")
        assert written.is_other_base == (name == "other")
        assert ("not the one" in str(written)) == (name == "other")
    hostile = tmp_path / "hostile" / "base"
    shutil.copytree(tiny, hostile)
    (hostile.parent / "secret").mkdir()
    index = hostile / "model_index.json"
    named = json.loads(index.read_text())
    for name in ("../secret", ".."):
        index.write_text(json.dumps({**named, name: ["x", "Y"]}))
        with pytest.raises(UserError, match="Do not use this base model"):
            orthodiff.export(tmp_path / "own", tmp_path / "out", format="merged", base=hostile)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "secret").exists()


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    from orthodiff.export import _write

    tensors = {"ids": torch.arange(3), "weight": torch.ones(2)}
    _write(Contents(tensors, {}), tmp_path / "out.safetensors", dtype=torch.float16)
    dtypes = {name: t.dtype for name, t in load_file(tmp_path / "out.safetensors").items()}
    assert dtypes == {"ids": torch.int64, "weight": torch.float16}

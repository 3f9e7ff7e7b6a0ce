"""What is exported gives the adapted pipeline's outputs where other code loads it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import orthodiff
from orthodiff.adapters import Method
from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.export.weight_delta import truncate
from tests.laws import CASES
from tests.test_adapters import over
from tests.test_inject import shake

UNET = (*orthodiff.ATTENTION, "ff.net.0.proj", "conv1", "proj_in", "time_emb_proj")


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny)


def predict(pipeline: StableDiffusionPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    with torch.no_grad():
        ids = torch.arange(8)[None].repeat(2, 1)
        text = pipeline.text_encoder(ids)[0]
        return pipeline.unet(latents, 7, text).sample


def make(
    pipeline: StableDiffusionPipeline, method: Method, folder: Path, base: Path, *, part: str
) -> Tensor:
    """Save a moved adapter; return the adapted pipeline's outputs."""
    targets = UNET if part == "unet" else orthodiff.TEXT_ATTENTION
    adapter = orthodiff.attach(getattr(pipeline, part), method, targets=targets)
    shake(adapter)
    adapter.save(folder, base=str(base), metadata={"instance_prompt": "a photo of sks dog"})
    expected = predict(pipeline)
    adapter.detach()
    return expected


def loaded(pipeline: StableDiffusionPipeline, file: Path) -> Tensor:
    """Return the outputs with a LoRA file loaded by diffusers."""
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    output = predict(pipeline)
    pipeline.unload_lora_weights()
    return output


@over(CASES)
@pytest.mark.parametrize("format", ["lora", "kohya"])
@pytest.mark.filterwarnings("ignore")
def test_diffusers_loads_the_lora_and_gives_the_same_outputs(
    method: Method, format: str, tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    before = predict(pipeline)
    expected = make(pipeline, method, tmp_path / "adapter", tiny, part="unet")
    out = tmp_path / "out.safetensors"
    written = orthodiff.export(tmp_path / "adapter", out, format=format, tolerance=1e-5)
    exact = isinstance(method, (orthodiff.HRA, orthodiff.LoRA))
    assert set(written.ranks.values()) == {4} or not exact
    assert max(written.errors.values()) <= (0 if exact else 1e-5)
    output = loaded(pipeline, out)
    assert (output - before).abs().max() > 0.02
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-5)
    assert torch.equal(predict(pipeline), before)


@pytest.mark.parametrize("format", ["lora", "kohya"])
@pytest.mark.filterwarnings("ignore")
def test_text_encoders_are_exported_too(
    format: str, tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    method = orthodiff.HRA(rank=4)
    expected = make(pipeline, method, tmp_path / "adapter", tiny, part="text_encoder")
    orthodiff.export(tmp_path / "adapter", tmp_path / "out.safetensors", format=format)
    output = loaded(pipeline, tmp_path / "out.safetensors")
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-5)


def test_a_strength_is_exported_as_the_rotation_it_is(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    adapter = orthodiff.load(pipeline.unet, tmp_path / "adapter")
    adapter.strength = 0.5
    expected = predict(pipeline)
    adapter.detach()
    out = tmp_path / "out.safetensors"
    orthodiff.export(tmp_path / "adapter", out, base=pipeline.unet, strength=0.5)
    torch.testing.assert_close(loaded(pipeline, out), expected, rtol=0, atol=2e-5)


@over({name: CASES[name] for name in ("hra", "oft", "boft-scaled")})
def test_differences_are_exact(
    method: Method, tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    make(pipeline, method, tmp_path / "adapter", tiny, part="unet")
    orthodiff.export(tmp_path / "adapter", tmp_path / "out.safetensors", format="diff")
    differences = load_file(tmp_path / "out.safetensors")
    adapter = orthodiff.load(pipeline.unet, tmp_path / "adapter")
    for name, layer in adapter.layers.items():
        before = layer.base_layer.weight.clone()
        key = f"lora_unet_{name.replace('.', '_')}.diff"
        torch.testing.assert_close(
            before + differences.pop(key), layer.adapted_weight(), rtol=0, atol=1e-6
        )
    adapter.detach()
    assert not differences


def test_a_merged_folder_is_a_pipeline(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    expected = make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    words = ["merge", "--adapter", str(tmp_path / "adapter"), "--output", str(tmp_path / "merged")]
    assert main(words) == 0
    merged = StableDiffusionPipeline.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(predict(merged), expected, rtol=0, atol=1e-5)
    assert (tmp_path / "merged" / "generation_config.json").is_file()
    assert main(words) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_single_file_is_read_by_diffusers(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    expected = make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    out = tmp_path / "whole.safetensors"
    words = ["merge", "--adapter", str(tmp_path / "adapter"), "--output", str(out)]
    assert main([*words, "--single_file"]) == 0
    merged = StableDiffusionPipeline.from_single_file(
        str(out), config=str(tiny), local_files_only=True
    )
    torch.testing.assert_close(predict(merged), expected, rtol=0, atol=1e-5)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = [p.vae.decode(latents).sample for p in (merged, pipeline)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-6)


def header_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


def test_headers_tell_what_the_file_is(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    os.utime(weights, (0, 86400))
    out = tmp_path / "dog.safetensors"
    orthodiff.export(tmp_path / "adapter", out, format="kohya")
    header = header_of(out)
    assert header["modelspec.trigger_phrase"] == "a photo of sks dog"
    assert header["modelspec.date"] == "1970-01-02T00:00:00+00:00"
    assert header["modelspec.prediction_type"] == "epsilon"
    assert "modelspec.thumbnail" not in header
    assert header["ss_network_dim"] == header["ss_network_alpha"] == "4"
    assert header["ss_base_model_version"] == "sd_v1"
    assert header["ss_output_name"] == "dog"
    assert json.loads(header["ss_tag_frequency"]) == {"subject": {"a photo of sks dog": 1}}
    assert header["sshs_model_hash"] == content_hash(out)
    for file in (out, weights):
        assert header_of(file)["modelspec.hash_sha256"] == f"0x{content_hash(file)}"


@pytest.mark.parametrize("format", ["lora", "kohya", "diff", "single"])
def test_exported_files_are_inspected(
    format: str,
    tiny: Path,
    tmp_path: Path,
    pipeline: StableDiffusionPipeline,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    out = tmp_path / "dog.safetensors"
    orthodiff.export(tmp_path / "adapter", out, format=format)
    assert main(["inspect", "--adapter", str(out)]) == 0
    told, tensors = json.loads(capsys.readouterr().out), load_file(out)
    assert told["header"] == header_of(out)
    assert told["header"]["modelspec.trigger_phrase"] == "a photo of sks dog"
    assert told["tensors"] == len(tensors)
    assert told["numbers"] == sum(tensor.numel() for tensor in tensors.values())
    out.write_bytes(out.read_bytes()[:-1])
    assert main(["inspect", "--adapter", str(out)]) == 2
    assert "truncated or not safetensors" in capsys.readouterr().err


def content_hash(file: Path) -> str:
    """Return the SHA-256 of all that follows the header."""
    content = file.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def test_the_same_adapter_gives_the_same_file(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    for name in ("a", "b"):
        torch.manual_seed(0)
        make(pipeline, orthodiff.HRA(rank=4), tmp_path / name / "adapter", tiny, part="unet")
        weights = tmp_path / name / "adapter" / "adapter_model.safetensors"
        os.utime(weights, (0, 0))
        orthodiff.export(tmp_path / name / "adapter", tmp_path / name / "out.safetensors")
    for file in ("adapter/adapter_model.safetensors", "out.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_errors_are_told_for_every_layer(
    tiny: Path,
    tmp_path: Path,
    pipeline: StableDiffusionPipeline,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(pipeline, CASES["oft"], tmp_path / "adapter", tiny, part="unet")
    out = tmp_path / "out.safetensors"
    words = ["export", "--adapter", str(tmp_path / "adapter"), "--output", str(out)]
    assert main([*words, "--tolerance", "0.2"]) == 0
    *lines, sentence = capsys.readouterr().out.splitlines()
    told = json.loads(header_of(out)["orthodiff.relative_errors"])
    assert len(lines) == len(told) > 8
    assert "largest relative error" in sentence
    for line, (name, error) in zip(lines, told.items(), strict=True):
        assert line.endswith(name)
        assert float(line.split()[0]) == pytest.approx(error, rel=0.01)
        assert 0 < error <= 0.2
    key = f"{name}.lora_"
    tensors = load_file(out)
    change = tensors[f"{key}B.weight"] @ tensors[f"{key}A.weight"]
    adapter = orthodiff.load(pipeline.unet, tmp_path / "adapter")
    layer = adapter.layers[name.removeprefix("unet.")]
    whole = layer.adapted_weight() - layer.unpacked_weight()
    adapter.detach()
    left = float((whole - change.view_as(whole)).detach().norm() / whole.norm())
    assert left == pytest.approx(error, rel=0.01)


def test_what_is_there_is_replaced_only_when_asked(
    tiny: Path, tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    make(pipeline, orthodiff.HRA(rank=4), tmp_path / "adapter", tiny, part="unet")
    adapter = str(tmp_path / "adapter")
    file, folder, notes = (tmp_path / name for name in ("out.safetensors", "whole", "notes"))
    for out, words in ((file, ["export"]), (folder, ["merge"])):
        command = [*words, "--adapter", adapter, "--output", str(out)]
        assert main(command) == 0
        before = sorted(p.stat().st_ino for p in (out, *out.rglob("*")))
        assert main(command) == 2
        assert sorted(p.stat().st_ino for p in (out, *out.rglob("*"))) == before
        assert main([*command, "--overwrite"]) == 0
        assert sorted(p.stat().st_ino for p in (out, *out.rglob("*"))) != before
    notes.mkdir()
    (notes / "diary.txt").write_text("mine")
    for out in (notes, tiny):
        with pytest.raises(UserError, match=r"no pipeline folder|the base model itself"):
            orthodiff.export(adapter, out, format="merged", overwrite=True)
    for out in (Path(adapter) / "adapter_model.safetensors", next((tiny / "unet").glob("*.saf*"))):
        content = out.read_bytes()
        with pytest.raises(UserError, match=r"the adapter itself|the base model itself"):
            orthodiff.export(adapter, out, overwrite=True)
        assert out.read_bytes() == content
    assert (notes / "diary.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter", "notes", "out.safetensors", "whole",
    ]  # fmt: skip


def test_a_refusal_makes_no_folder(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=2))
    orthodiff.attach(model, orthodiff.HRA(rank=4), targets="0").save(tmp_path / "adapter")
    plain = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=2))
    for format, sentence in (("lora", "in groups"), ("single", "whole base"), ("merged", "whole")):
        out = tmp_path / "new" / ("out" if format == "merged" else "out.safetensors")
        with pytest.raises(UserError, match=sentence):
            orthodiff.export(tmp_path / "adapter", out, format=format, base=plain)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out.safetensors"
    with pytest.raises(UserError, match="cannot be made"):
        orthodiff.export(tmp_path / "adapter", out, format="diff", base=plain)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "file"]


def test_truncation_keeps_the_smallest_rank_within_the_tolerance() -> None:
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(9, 9, generator=generator)).Q for _ in range(2))
    change = (U * torch.tensor([4.0, 3.0, 0.5, 0.1, 0, 0, 0, 0, 0])) @ V.T
    for tolerance, rank in ((0.0101 * 10, 3), (0.03, 3), (0.0101, 4), (0.9, 1)):
        up, down, error = truncate(change, tolerance, None)
        assert up.shape[1] == rank
        left = (change - up @ down).norm() / change.norm()
        assert error == pytest.approx(float(left), abs=1e-6)
        assert error <= tolerance
    assert truncate(change, 1e-3, 2)[0].shape[1] == 2
    assert truncate(0 * change, 1e-3, None)[2] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--output", "x.bin"], "must be a file's name that ends in .safetensors"),
        (["--output", "x.safetensors", "--tolerance", "2"], "`tolerance`"),
        (["--output", "x.safetensors", "--format", "ckpt"], "`format` is 'ckpt'"),
        (["--output", "x.safetensors", "--pretrained_model_name_or_path", "nowhere"], "`nowhere`"),
        (["--output", "x.safetensors"], "does not say its base"),
    ],
)
def test_bad_requests_are_told_and_write_nothing(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pipeline: StableDiffusionPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = orthodiff.attach(pipeline.unet, orthodiff.HRA(rank=4))
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--adapter", "adapter", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_of_another_base_is_refused(
    tmp_path: Path, pipeline: StableDiffusionPipeline
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    orthodiff.attach(model, orthodiff.HRA(rank=4), targets="*").save(tmp_path / "adapter")
    with pytest.raises(UserError, match="no such layer"):
        orthodiff.export(tmp_path / "adapter", tmp_path / "o.safetensors", base=pipeline.unet)

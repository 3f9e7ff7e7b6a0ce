"""Pairs of the pocket world: reproducible, true to their images, splits kept apart."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from orthodiff.control import condition_of
from orthodiff.errors import UserError
from pocket.painted.grounds import GROUNDS, SETTINGS
from pocket.painted.pairs import (
    CONDITIONS,
    HELD_OUT_CLASSES,
    control_image_of,
    is_held_out,
    paint_pair,
    write_pairs,
)
from pocket.painted.regions import LABELS, REGIONS, recording
from tests.test_world import needs_font


def test_every_ground_names_its_regions():
    for phrase in GROUNDS:
        assert SETTINGS[phrase]
        assert set(SETTINGS[phrase]) <= set(REGIONS)


@pytest.mark.parametrize("phrase", GROUNDS)
def test_recording_changes_no_image_and_labels_everything(phrase):
    plain = GROUNDS[phrase](np.random.default_rng(3), 64)
    with recording(SETTINGS[phrase], 64) as labels:
        recorded = GROUNDS[phrase](np.random.default_rng(3), 64)
    assert np.array_equal(plain, recorded)
    found = {LABELS[label] for label in np.unique(labels)}
    assert set(SETTINGS[phrase]) <= found <= set(REGIONS)


def test_a_landmark_is_labelled_where_it_is():
    with recording(SETTINGS["with the Eiffel Tower in the background"], 128) as labels:
        image = GROUNDS["with the Eiffel Tower in the background"](np.random.default_rng(0), 128)
    iron = np.abs(image.astype(int) - (85, 62, 52)).max(-1) < 8
    tower = labels == LABELS.index("building")
    assert (iron & tower).sum() / (iron | tower).sum() > 0.85


@needs_font
def test_same_seed_same_pair():
    first, second = paint_pair(1, 5), paint_pair(1, 5)
    assert np.array_equal(first.painting.image, second.painting.image)
    assert np.array_equal(first.labels, second.labels)
    assert first.painting.caption == second.painting.caption
    assert not np.array_equal(first.painting.image, paint_pair(2, 5).painting.image)


@needs_font
def test_splits_share_no_class_and_no_layout():
    for split, held_out in (("train", False), ("held-out", True)):
        for index in range(150):
            painting = paint_pair(0, index, split=split, size=16).painting
            assert (painting.appearance.name in HELD_OUT_CLASSES) == held_out
            assert is_held_out(painting.context, painting.pose) == held_out
            assert not painting.appearance.held_out  # as in pretraining


@needs_font
def test_the_subject_has_its_classs_label():
    pair = paint_pair(0, 3)
    inside = pair.painting.mask > 127
    assert (pair.labels[inside] == LABELS.index(pair.painting.appearance.name)).all()
    assert (pair.labels[~inside] <= len(REGIONS)).all()
    condition = CONDITIONS["segmentation"]
    assert np.array_equal(condition.decode(control_image_of(pair, "segmentation")), pair.labels)


@needs_font
@pytest.mark.parametrize("kind", CONDITIONS)
def test_maps_say_something_and_are_of_their_kind(kind):
    for index in range(30):
        given = control_image_of(paint_pair(0, index), kind)
        CONDITIONS[kind].check(given)
        assert (np.asarray(given).max(-1) > 0).mean() > 0.03


@needs_font
def test_a_data_set_is_reproducible_and_says_its_condition(tmp_path):
    for name in ("a", "b"):
        write_pairs("segmentation", 4, tmp_path / name, seed=2)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 10
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    about = json.loads((tmp_path / "a" / "condition.json").read_text())
    condition = condition_of(about["condition_type"], about["settings"])
    assert condition == CONDITIONS["segmentation"]
    assert about["labels"] == list(LABELS)


@needs_font
def test_huggingface_datasets_reads_the_columns_of_diffusers(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    write_pairs("canny", 3, tmp_path / "pairs")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "pairs"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert {"image", "conditioning_image", "text"} <= set(loaded.column_names)
    row = loaded[1]
    with Image.open(tmp_path / "pairs" / "maps" / "00001.png") as written:
        assert np.array_equal(np.asarray(row["conditioning_image"]), np.asarray(written))
    assert row["image"].size == (64, 64)


@needs_font
def test_other_folders_are_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        write_pairs("canny", 1, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@needs_font
def test_pairs_are_replaced_only_when_asked_to(tmp_path):
    out = tmp_path / "pairs"
    write_pairs("canny", 3, out, size=16)
    with pytest.raises(UserError, match=r"holds pairs already.*--overwrite"):
        write_pairs("canny", 1, out, size=16)
    assert len(list((out / "maps").iterdir())) == 3
    write_pairs("canny", 1, out, size=16, overwrite=True)
    assert len(list((out / "maps").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


@needs_font
@pytest.mark.parametrize("theirs", ["only condition.json", "a file more", "other columns"])
def test_overwriting_spares_folders_of_others(tmp_path, theirs):
    out = tmp_path / "pairs"
    write_pairs("canny", 2, out, size=16)
    if theirs == "only condition.json":
        for name in ("images", "maps", "metadata.jsonl"):
            (out / name).rename(tmp_path / name)
    elif theirs == "a file more":
        (out / "images" / "thesis.txt").write_text("mine")
    else:
        listed = (out / "metadata.jsonl").read_text("utf-8")
        (out / "metadata.jsonl").write_text(listed.replace('"context"', '"place"'), "utf-8")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds something else"):
            write_pairs("canny", 1, out, size=16, overwrite=overwrite)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


@needs_font
def test_pairs_command_line(tmp_path):
    command = [sys.executable, "-m", "pocket.painted", "--pairs", "scribble", "--split",
               "held-out", "--count", "2", "--out", str(tmp_path / "s")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    listed = (tmp_path / "s" / "metadata.jsonl").read_text("utf-8")
    rows = [json.loads(row) for row in listed.splitlines()]
    assert [row["file_name"] for row in rows] == ["images/00000.png", "images/00001.png"]
    assert all(row["class"] in HELD_OUT_CLASSES for row in rows)
    again = subprocess.run(command, capture_output=True)
    assert again.returncode == 2
    assert b"--overwrite" in again.stderr
    subprocess.run([*command, "--overwrite"], check=True, capture_output=True)
    assert (tmp_path / "s" / "metadata.jsonl").read_text("utf-8") == listed

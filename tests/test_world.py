"""The pocket world: deterministic, any resolution, and subjects are never seen in pretraining."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from orthodiff.errors import UserError
from pocket.painted import glyphs
from pocket.painted.__main__ import main
from pocket.painted.album import open_album
from pocket.painted.appearances import (
    ACCESSORIES,
    COLOURS,
    PATTERNS,
    Appearance,
    sprite,
)
from pocket.painted.grounds import GROUNDS
from pocket.painted.world import (
    compose,
    paint,
    paint_subject,
    random_pose,
    shortened,
    subject_appearance,
    write_subject,
)

DREAMBOOTH_CLASSES = {
    "backpack", "stuffed animal", "bowl", "can", "candle", "cat", "clock", "sneaker", "dog", "toy",
    "boot", "glasses", "cartoon", "teapot", "vase",
}  # fmt: skip

try:
    glyphs.emoji_font()
    FONT = True
except UserError:
    FONT = False
needs_font = pytest.mark.skipif(
    not FONT, reason="needs Noto Color Emoji: apt-get install fonts-noto-color-emoji"
)


def test_world_is_as_wide_as_promised():
    assert set(glyphs.CLASSES) >= DREAMBOOTH_CLASSES
    assert len(glyphs.CLASSES) >= 60
    assert len(GROUNDS) >= 20
    assert {"red", "purple"} <= set(COLOURS)
    assert "wearing a red hat" in ACCESSORIES


@pytest.mark.parametrize("phrase", GROUNDS)
@pytest.mark.parametrize("size", [33, 192])
def test_grounds_fill_any_size(phrase, size):
    image = GROUNDS[phrase](np.random.default_rng(0), size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.std() > 2  # not a blank


def test_ground_looks_alike_at_any_resolution():
    """Lengths are shares of the side: shrinking a large ground gives nearly the small one."""
    for phrase in ("on the beach", "at night", "on a checkered floor"):
        small = GROUNDS[phrase](np.random.default_rng(5), 64)
        large = Image.fromarray(GROUNDS[phrase](np.random.default_rng(5), 256)).resize((64, 64))
        assert np.abs(np.asarray(large).astype(int) - small).mean() < 20, phrase


def test_missing_font_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(glyphs, "_FONT_FOLDERS", ())
    monkeypatch.delenv("ORTHODIFF_EMOJI_FONT", raising=False)
    with pytest.raises(UserError, match="apt-get install fonts-noto-color-emoji"):
        glyphs.emoji_font.__wrapped__()


def test_short_contexts_keep_their_noun():
    assert shortened(" on top of a wooden floor") == " on a wooden floor"
    assert shortened(" floating on top of water") == " on water"


@needs_font
def test_every_class_has_its_own_glyph():
    drawn = {name: glyphs.glyph(name) for name in glyphs.CLASSES}
    assert {glyph.shape[:2] for glyph in drawn.values()} == {(glyphs.GLYPH_SIDE,) * 2}
    shares = {name: (glyph[..., 3] > 128).mean() for name, glyph in drawn.items()}
    assert {name: share for name, share in shares.items() if not 0.08 < share < 0.95} == {}
    assert len({glyph.tobytes() for glyph in drawn.values()}) == len(glyphs.CLASSES)


@needs_font
@pytest.mark.parametrize("change", [{"colour": c} for c in COLOURS]
                         + [{"pattern": p} for p in PATTERNS]
                         + [{"accessory": a} for a in ACCESSORIES], ids=str)  # fmt: skip
def test_every_attribute_shows(change):
    plain, changed = sprite(Appearance("dog")), sprite(Appearance("dog", **change))
    assert np.abs(plain.astype(int) - changed).mean() > 1


@needs_font
def test_same_seed_same_image():
    for index in (0, 17):
        first, second = paint(4, index), paint(4, index)
        assert (first.image == second.image).all()
        assert first.caption == second.caption
    assert (paint(4, 0).image != paint(5, 0).image).any()


@needs_font
def test_mask_is_where_the_subject_is():
    """Painting two looks over one ground changes the mask and the shadow, nothing far away."""
    appearance, pose = Appearance("teapot"), random_pose(np.random.default_rng(1))
    image, mask = compose(appearance, "on the beach", pose, np.random.default_rng(2), size=128)
    ground = GROUNDS["on the beach"](np.random.default_rng(2), 128)
    near = np.asarray(Image.fromarray(mask).resize((16, 16)).resize((128, 128))) > 0
    far = ~(near | np.roll(near, (16, 16), (0, 1)))
    inside = np.abs(image.astype(int) - ground)[mask > 250].mean()
    assert inside > 20
    assert np.abs(image.astype(int) - ground)[far].mean() < 3


@needs_font
def test_held_out_looks_never_reach_pretraining():
    assert not any(paint(0, index, size=16).appearance.held_out for index in range(1500))
    assert all(subject_appearance(number).held_out for number in range(50))


@needs_font
def test_subject_keeps_its_look_and_changes_place():
    paintings = paint_subject(3, 5)
    assert len({p.appearance for p in paintings}) == 1
    assert len({p.context for p in paintings}) == 5


@needs_font
def test_subject_folder_is_reproducible(tmp_path):
    write_subject(8, 3, tmp_path / "a")
    card = write_subject(8, 3, tmp_path / "b")
    for name in ("00.png", "02.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert card["class"] in glyphs.CLASSES
    assert card["instance_prompt"] == f"a photo of sks {card['class']}"


@needs_font
def test_subject_command_line(tmp_path):
    command = [sys.executable, "-m", "pocket.painted", "--subject", "2", "--count", "2",
               "--size", "96", "--out", str(tmp_path / "s")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(tmp_path / "s" / "01.png") as image:
        assert image.size == (96, 96)
    assert "caption" in json.loads((tmp_path / "s" / "subject.json").read_text())


@needs_font
def test_a_subject_is_not_painted_among_other_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    words = ["world", "--subject", "1", "--count", "1", "--out", "."]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: `.` is not empty. Choose a new folder, or add --overwrite to write the images "
        "beside what is there.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    monkeypatch.setattr(sys, "argv", [*words, "--overwrite"])
    main()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "00.png", "subject.json"}


@needs_font
@pytest.mark.parametrize(("words", "sentence"), [
    ("--subject -1 --out x", "Use a `subject` of 0 to 4294967295, not -1."),
    ("--pairs segmentation --size 1 --out x", "Use a `size` of 16 to 2048, not 1."),
    ("--pairs canny --size 9999 --out x", "Use a `size` of 16 to 2048, not 9999."),
    ("--pairs canny --count 0 --out x", "Use a `count` of 1 to 1000000, not 0."),
    ("--pairs canny --seed -1 --out x", "Use a `seed` of 0 to 4294967295, not -1."),
    ("--pairs canny --out /proc/x", "The folder `/proc/x` cannot be written (No such file or "
                                    "directory). Choose another --out."),
    ("--subject 1 --out /proc/x", "The folder `/proc/x` cannot be written (No such file or "
                                  "directory). Choose another --out."),
])  # fmt: skip
def test_what_cannot_be_painted_is_told_in_one_sentence(
    words, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["world", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert not list(tmp_path.iterdir())


@needs_font
def test_album_holds_the_paintings_of_its_seed(tmp_path):
    album = open_album(tmp_path, count=600, size=32, seed=9)
    assert len(album) == 600
    assert (album.images[550] == paint(9, 550, size=32).image).all()
    assert album.cards[550]["caption"] == paint(9, 550, size=32).caption

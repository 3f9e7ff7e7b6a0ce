"""Faults that users of such tools report, one test a kind; each input was misread silently."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.evaluation.subject_folder import read_subject
from orthodiff.training.cli.main import main
from orthodiff.training.data.captions import CaptionRules, mentions
from orthodiff.training.data.readers.layouts import LAYOUTS, DataLayout, find
from orthodiff.training.data.readers.records import Columns, DataRequest, Listing, Record
from orthodiff.training.data.tokens import cut_captions, open_tokenizers
from orthodiff.training.data.usable import usable_examples
from orthodiff.training.tasks.prior import ClassImages
from tests.photos import photo, save
from tests.runs import start, train

HALF = (0, 0, 48, 64)


def mask(white: float, mode: str = "L") -> Image.Image:
    """A mask whose left half has the level `white`."""
    levels = np.zeros((64, 96), {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
    levels[:, :48] = white
    return Image.fromarray(levels)


@pytest.mark.parametrize(
    ("white", "mode", "level"),
    [(1, "L", None), (100, "L", None), (255, "I;16", None), (1, "I;16", None),
     (255, "L", 255), (128, "L", 128), (65535, "I;16", 255), (1.0, "F", 255), (255.0, "F", 255)],
)  # fmt: skip
@pytest.mark.parametrize("place", ["beside", "mask_dir", "alpha"])
def test_masks_count_by_the_range_of_their_type_and_dim_ones_are_refused(
    tmp_path: Path, white: float, mode: str, level: int | None, place: str
) -> None:
    save(tmp_path / "photos" / "a.png")
    (tmp_path / "masks").mkdir()
    asked = DataRequest(folder=tmp_path / "photos")
    ending = "tif" if mode == "F" else "png"
    if place == "beside":
        mask(white, mode).save(tmp_path / "photos" / f"a-masklabel.{ending}")
    elif place == "mask_dir":
        mask(white, mode).save(tmp_path / "masks" / f"a.{ending}")
        asked = replace(asked, mask_dir=tmp_path / "masks")
    elif mode == "L":
        clear = photo(0)
        clear.putalpha(mask(white))
        clear.save(tmp_path / "photos" / "a.png")
        asked = replace(asked, alpha_mask=True)
    else:
        pytest.skip("opacity has 8 bits")
    if level is None:
        with pytest.raises(UserError, match=r"`a\.png`.*its mask is (nearly )?black"):
            usable_examples(asked)
    else:
        (example,) = usable_examples(asked)
        assert example.mask is not None
        assert example.mask.getextrema() == (0, level)


def kohya(folder: Path) -> Path:
    for number in range(2):
        save(folder / "reg" / "1_dog" / f"{number}.png", number)
    mask(255).save(folder / "reg" / "1_dog" / "0-masklabel.png")
    return folder / "reg"


def imagefolder(folder: Path) -> Path:
    for number in range(2):
        save(folder / "reg" / "images" / f"{number}.png", number)
    mask(255).save(folder / "reg" / "images" / "0-masklabel.png")
    rows = [json.dumps({"file_name": f"images/{number}.png"}) for number in range(2)]
    (folder / "reg" / "metadata.jsonl").write_text("\n".join(rows))
    return folder / "reg"


def flat(folder: Path) -> Path:
    for number in range(2):
        save(folder / "reg" / f"{number}.png", number)
    mask(255).save(folder / "reg" / "0-masklabel.png")
    return folder / "reg"


@pytest.mark.parametrize("layout", [kohya, imagefolder, flat])
@pytest.mark.parametrize("leftover", [False, True])
def test_class_images_may_have_any_layout(tmp_path: Path, layout, leftover: bool) -> None:
    folder = layout(tmp_path)
    if leftover and layout is kohya:  # an earlier version did not see the tree, and filled it up
        save(folder / "class-00000.png", 9)
    images = ClassImages("a dog", 5, cache_dir=tmp_path / "cache", folder=folder)
    given = images.given()
    assert [Path(record.name).name for record in given] == ["0.png", "1.png"]
    assert {record.caption for record in given} == {"a dog"}
    assert [record.mask is not None for record in given] == [True, False]


def test_a_folder_above_the_class_images_is_refused(tmp_path: Path) -> None:
    images = ClassImages("a dog", 5, cache_dir=tmp_path, folder=kohya(tmp_path).parent)
    with pytest.raises(UserError, match=r"only folders with images.*`reg`"):
        images.check()


def test_masks_are_no_photos_of_a_subject(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    mask(255).save(tmp_path / "a-masklabel.png")
    subject = read_subject(tmp_path, instance_prompt="a photo of sks dog")
    assert len(subject.photos) == 1


def test_masks_are_looked_up_by_the_relative_path_first(tmp_path: Path) -> None:
    for leaf in ("5_a", "5_b"):
        save(tmp_path / "photos" / leaf / "00.png")
        (tmp_path / "masks" / leaf).mkdir(parents=True)
        mask(255).save(tmp_path / "masks" / leaf / "00.png")
    asked = DataRequest(folder=tmp_path / "photos", mask_dir=tmp_path / "masks")
    masks = [record.mask for record in find(asked).records]
    assert masks == [tmp_path / "masks" / leaf / "00.png" for leaf in ("5_a", "5_b")]
    (tmp_path / "masks" / "5_b" / "00.png").rename(tmp_path / "masks" / "00.png")
    assert find(asked).records[1].mask == tmp_path / "masks" / "00.png"
    (tmp_path / "masks" / "5_a" / "00.png").unlink()
    with pytest.raises(UserError, match=r"`5_b/00\.png`.*its mask `00\.png` is also that of `5_a"):
        usable_examples(asked)


@pytest.mark.parametrize("layer", ["mask_dir", "mask", "conditioning_image"])
def test_an_image_is_not_its_own_mask_or_control_image(tmp_path: Path, layer: str) -> None:
    save(tmp_path / "a.png")
    asked = DataRequest(folder=tmp_path)
    if layer == "mask_dir":
        asked = replace(asked, mask_dir=tmp_path)
    else:
        row = {"file_name": "a.png", layer: "./a.png"}
        (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"`a\.png` is itself one of the images"):
        usable_examples(asked)


@pytest.mark.parametrize(
    ("phrase", "caption", "there"),
    [
        ("man", "a woman", False),
        ("man", "a man-made lake", True),
        ("man", "A Man, smiling", True),
        ("sks dog", "a photo of sks dogs", False),
        ("sks dog", "sks dog", True),
        ("<sks>", "a <sks> dog", True),
        ("o.k.", "oaks", False),
        ("mädchen", "ein Mädchen", True),
    ],
)
def test_a_trigger_is_matched_in_whole_words(phrase: str, caption: str, there: bool) -> None:
    assert mentions(caption, phrase) is there
    (variant,) = CaptionRules(trigger=phrase).variants(caption)
    assert variant == (caption if there else f"{phrase}, {caption}")


WRITTEN = ["./00.png", "{folder}/00.png", "sub/../00.png", ".\\00.png", "00.png"]


@pytest.mark.parametrize("written", WRITTEN)
def test_paths_in_a_list_are_compared_as_places(tmp_path: Path, written: str) -> None:
    save(tmp_path / "real" / "00.png")
    (tmp_path / "real" / "sub").mkdir()
    folder = tmp_path / "alias"
    folder.symlink_to(tmp_path / "real")
    rows = [{"file_name": written.format(folder=folder)}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listing = find(DataRequest(folder=folder))
    assert ([r.name for r in listing.records], listing.remarks) == (["00.png"], [])
    rows.append({"file_name": "00.png"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "`00.png` is listed already" in str(find(DataRequest(folder=folder)).problems[0])


@pytest.mark.parametrize(
    ("column", "caption", "remark"),
    [
        ("Caption", "a dog", None),
        ("TEXT", "a dog", None),
        ("description", "", "`description`: not read, and no column has captions"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "semicolons", "tabs", "dataset"])
def test_columns_are_found_whatever_their_capitals_and_unread_ones_are_named(
    tmp_path: Path, column: str, caption: str, remark: str | None, kind: str
) -> None:
    save(tmp_path / "a.png")
    if kind == "dataset":
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_dict({"image": [photo(0)], column: ["a dog"]})
        rows.save_to_disk(str(tmp_path / "saved"))
        listing = find(DataRequest(folder=tmp_path / "saved"))
    elif kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text(
            json.dumps({"file_name": "a.png", column: "a dog"})
        )
        listing = find(DataRequest(folder=tmp_path))
    else:
        mark = {"csv": ",", "semicolons": ";", "tabs": "\t"}[kind]
        (tmp_path / "metadata.csv").write_text(f"file_name{mark}{column}\na.png{mark}a dog\n")
        listing = find(DataRequest(folder=tmp_path))
    assert [record.caption for record in listing.records] == [caption]
    assert len(listing.remarks) == bool(remark)
    assert (remark or "") in "".join(listing.remarks)
    asked = DataRequest(folder=tmp_path, columns=Columns(caption=column.swapcase()))
    if kind == "jsonl":
        assert [record.caption for record in find(asked).records] == ["a dog"]


def test_captions_in_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"caption": "a dog"}')
    (tmp_path / "subject.json").write_text("{}")
    assert find(DataRequest(folder=tmp_path)).remarks == [
        "`a.json`: not read; captions are those of `.txt` files."
    ]


def test_a_tree_of_no_repeats_is_told_as_one(tmp_path: Path) -> None:
    save(tmp_path / "00_dog" / "a.png")
    with pytest.raises(
        UserError, match=r"`00_dog` is left out: its name asks for 0 repeats\. Name"
    ):
        find(DataRequest(folder=tmp_path))


def test_a_layout_of_another_package_is_asked_first(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "mine.idx").touch()

    def read(folder: Path, request: DataRequest) -> Listing:
        return Listing("mine", [Record("x", folder / "a.png", "a dog")])

    LAYOUTS.register("mine", DataLayout(lambda folder: (folder / "mine.idx").is_file(), read))
    try:
        assert find(DataRequest(folder=tmp_path)).layout == "mine"
    finally:
        LAYOUTS.unregister("mine")


@pytest.mark.skipif(os.name == "nt", reason="file names are bytes elsewhere")
def test_names_of_other_bytes_survive(tiny: Path, tmp_path: Path) -> None:
    other = os.fsdecode(b"caf\xe9")
    save(tmp_path / other / f"{other}.png")
    save(tmp_path / other / "b.png", 1)
    assert train(tiny, tmp_path / other, tmp_path / f"run {other}", max_train_steps=1) == 0
    more = {"max_train_steps": 2, "resume_from_checkpoint": "latest"}
    assert train(tiny, tmp_path / other, tmp_path / f"run {other}", **more) == 0
    assert main(["check", str(tmp_path / other)]) == 0


@pytest.mark.parametrize("place", ["folder", "caption", "list", "prompt"])
def test_texts_of_other_bytes_are_refused_by_name(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    images, other = tmp_path / "photos", os.fsdecode(b"caf\xe9")
    leaf = images / f"1_{other}" if place == "folder" else images
    save(leaf / "a.png")
    if place == "caption":
        (leaf / "a.txt").write_bytes(b"caf\xe9")
    if place == "list":
        (leaf / "metadata.jsonl").write_bytes(b'{"file_name": "a.png", "text": "caf\xe9"}')
    flags = {"instance_prompt": f"a photo of {other}"} if place == "prompt" else {}
    assert train(tiny, images, tmp_path / "run", **flags) == 2
    error = capsys.readouterr().err
    assert {"folder": "1_caf", "caption": "a.txt", "list": "metadata.jsonl line 1",
            "prompt": "instance_prompt"}[place] in error  # fmt: skip
    assert "UTF-8" in error
    assert "Traceback" not in error


def test_a_closed_pipe_ends_the_report_quietly(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    with start(["check", str(tmp_path), "--json"]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_captions_are_counted_in_the_tokens_of_the_base(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = open_tokenizers(str(tiny))[0].model_max_length
    words = "dog " * limit + "with a red ball"
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "photos" / "b.png", 1)
    (tmp_path / "photos" / "b.txt").write_text(words)
    remark = f"`b.png`: captions of more tokens than the {limit} that this base reads."
    base = f"--pretrained_model_name_or_path={tiny}"
    assert main(["check", str(tmp_path / "photos"), "--resolution=64", base]) == 0
    shown = capsys.readouterr().out
    assert remark in shown
    assert train(tiny, tmp_path / "photos", tmp_path / "run", max_train_steps=1) == 0
    assert f"note: {remark}" in capsys.readouterr().err
    (cut,) = cut_captions(open_tokenizers(str(tiny)), [("b.png", words), ("a.png", "a dog")])
    assert words.endswith(cut.lost)
    assert cut.lost.endswith("with a red ball")


def test_a_base_without_tokenizers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no CLIP tokenizer"):
        open_tokenizers(str(tmp_path))

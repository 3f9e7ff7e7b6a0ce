"""Every layout that people have is recognised by itself and read with all that belongs to it."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from orthodiff.errors import FileError, UserError
from orthodiff.training.data.dataset import Examples
from orthodiff.training.data.readers.layouts import LAYOUTS, find
from orthodiff.training.data.readers.records import Columns, DataRequest, Listing
from orthodiff.training.data.usable import usable_examples
from tests.photos import photo, save

REAL = Path(__file__).parent.parent.parent / "shared" / "dreambooth"


def captions(found: Listing) -> dict[str, str]:
    return {record.name: record.caption for record in found.records}


def request(folder: Path) -> DataRequest:
    return DataRequest(folder=folder, caption="a photo of sks dog")


def test_flat_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.png", "c.webp", "d.png")):
        save(tmp_path / name, number)
    (tmp_path / "a.txt").write_text("sks dog\non a rug\n")
    (tmp_path / "b.caption").write_bytes(b"\xef\xbb\xbfsks dog, B\xc3\xa4r")
    (tmp_path / "c.txt").write_bytes("sks dog at sea".encode("utf-16"))
    (tmp_path / "d.txt").write_text(" \n")
    (tmp_path / "subject.json").write_text("{}")
    found = find(request(tmp_path))
    assert found.layout == "a flat folder"
    assert captions(found) == {
        "a.jpg": "sks dog on a rug",
        "b.png": "sks dog, Bär",
        "c.webp": "sks dog at sea",
        "d.png": "a photo of sks dog",
    }
    assert [record.has_own_caption for record in found.records] == [True, True, True, False]
    assert (found.problems, found.remarks) == ([], [])


@pytest.mark.parametrize("place", ["photos", "10_dog"])
def test_caption_files_in_capitals_and_empty_ones(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    for number in range(4):
        save(folder / f"{number}.png", number)
    words = {
        "0.TXT": "sks dog", "1.Caption": "asleep", "2.txt": " ", "2.caption": "at sea",
        "3.TXT": "first", "3.caption": "second", "4.TXT": "of none",
    }  # fmt: skip
    for name, text in words.items():
        (folder / name).write_text(text)
    found = find(request(folder))
    assert list(captions(found).values()) == ["sks dog", "asleep", "at sea", "first"]
    assert "`4.TXT`: no image here has this name" in found.remarks[0]


def test_a_column_asked_for_where_there_are_none_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    asked = replace(request(tmp_path), columns=Columns(caption="txet"))
    assert "no column `txet`" in find(asked).remarks[0]


def test_flat_folder_says_what_it_leaves_out(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "old" / "b.png")
    for name in ("aa.txt", "clip.mp4", "raw.dng", ".DS_Store"):
        (tmp_path / name).write_text("x")
    told = " ".join(find(request(tmp_path)).remarks)
    assert "`aa.txt`: no image" in told
    assert "`clip.mp4`, `raw.dng`" in told
    assert "`old`" in told
    assert "DS_Store" not in told


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    found = find(request(tmp_path))
    assert list(captions(found)) == ["a.png"]
    assert [problem.name for problem in found.problems] == ["b.png"]


def test_kohya_tree(tmp_path: Path) -> None:
    save(tmp_path / "img" / "10_sks dog" / "a.png", 0)
    save(tmp_path / "img" / "10_sks dog" / "b.png", 1)
    (tmp_path / "img" / "10_sks dog" / "b.txt").write_text("sks dog asleep")
    save(tmp_path / "img" / "2_dog" / "a.png", 2)
    save(tmp_path / "img" / "0_unused" / "a.png", 3)
    save(tmp_path / "img" / "sketches" / "a.png", 4)
    found = find(request(tmp_path / "img"))
    assert found.layout == "a kohya tree"
    assert [(r.name, r.caption, r.repeats) for r in found.records] == [
        ("10_sks dog/a.png", "sks dog", 10),
        ("10_sks dog/b.png", "sks dog asleep", 10),
        ("2_dog/a.png", "dog", 2),
    ]
    assert "0_unused" in " ".join(found.remarks)
    assert "sketches" in " ".join(found.remarks)
    with pytest.raises(UserError, match=r"only folders with images.*`img`"):
        find(request(tmp_path))


def test_kohya_leaf(tmp_path: Path) -> None:
    save(tmp_path / "10_sks dog" / "a.png")
    (record,) = find(request(tmp_path / "10_sks dog")).records
    assert (record.name, record.caption, record.repeats) == ("a.png", "sks dog", 10)


def test_a_folder_that_happens_to_be_named_like_kohya_s_is_told(tmp_path: Path) -> None:
    save(tmp_path / "2024_holiday" / "a.png")
    (remark,) = find(request(tmp_path / "2024_holiday")).remarks
    assert "`2024_holiday` is read as kohya's scripts do" in remark


ROWS = [
    {"file_name": "a.png", "text": "sks dog", "conditioning_image": "maps/a.png", "mask": "m.png"},
    {"file_name": "sub/b.png", "text": "", "conditioning_image": "maps/b.png", "mask": ""},
]


def imagefolder(folder: Path, kind: str, rows: list[dict[str, str]] = ROWS) -> Path:
    for number, name in enumerate(("a.png", "sub/b.png", "maps/a.png", "maps/b.png", "m.png")):
        save(folder / name, number)
    if kind == "csv":
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / "metadata.jsonl").write_text(lines)
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("place", ["", "train"])
def test_imagefolder(tmp_path: Path, kind: str, place: str) -> None:
    folder = imagefolder(tmp_path / place, kind)
    found = find(request(tmp_path))
    assert found.layout == "an imagefolder"
    assert captions(found) == {"a.png": "sks dog", "sub/b.png": "a photo of sks dog"}
    assert found.problems == found.remarks == []
    first, second = found.records
    assert (first.control_image, first.mask) == (folder / "maps/a.png", folder / "m.png")
    assert second.mask is None


def test_imagefolder_columns(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "prompt": "one", "english": "two", "edges": "maps/a.png"}]
    asked = request(imagefolder(tmp_path, "jsonl", rows))
    (record,) = find(asked).records
    assert (record.caption, record.control_image) == ("one", None)
    (record,) = find(
        replace(asked, columns=Columns(caption="english", control_image="edges"))
    ).records
    assert (record.caption, record.control_image) == ("two", tmp_path / "maps/a.png")
    with pytest.raises(UserError, match=r"no column `englisch`.*Did you mean `english`"):
        find(replace(asked, columns=Columns(caption="englisch")))


def test_a_csv_row_with_an_unquoted_comma_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    lines = ("file_name,text", "0.png,a dog, in snow", '1.png,"a dog, asleep"', "2.png,a cat,")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = find(request(tmp_path))
    assert captions(found) == {"1.png": "a dog, asleep", "2.png": "a cat"}
    assert found.remarks == []
    (problem,) = found.problems
    assert "`metadata.csv line 2` cannot be used: it has more cells than there are" in str(problem)
    with pytest.raises(UserError, match="Put the caption in quotes"):
        usable_examples(request(tmp_path))
    with pytest.raises(UserError, match=r"no column `txet`.*Did you mean `text`"):
        find(replace(request(tmp_path), columns=Columns(caption="txet")))


def test_imagefolder_names_images_it_does_not_list(tmp_path: Path) -> None:
    imagefolder(tmp_path, "jsonl", ROWS[:1])
    save(tmp_path / "new.png")
    assert "`new.png`: not in `metadata.jsonl`" in find(request(tmp_path)).remarks[0]


@pytest.fixture(scope="module")
def rows():
    """A `datasets` dataset with two images, their captions, conditions and a mask."""
    datasets = pytest.importorskip("datasets")
    images = [photo(0), photo(1)]
    table = {
        "photo": images,
        "image": images,
        "words": ["sks dog", None],
        "text": ["one", "two"],
        "conditioning_image": [photo(2), photo(3)],
        "mask": [Image.new("L", (96, 64), 255), None],
    }
    features = datasets.Features(
        {n: datasets.Value("string") if n in ("words", "text") else datasets.Image() for n in table}
    )
    return datasets.Dataset.from_dict(table, features=features)


@pytest.mark.parametrize("kind", ["parquet", "saved", "dictionary"])
def test_local_dataset(tmp_path: Path, rows, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    if kind == "parquet":
        (tmp_path / "data").mkdir()
        rows.to_parquet(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    elif kind == "saved":
        rows.save_to_disk(str(tmp_path / "data"))
    else:
        datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "data"))
    place = tmp_path / "data"
    asked = DataRequest(dataset=str(place), caption="a photo of sks dog")
    found = find(asked)
    assert captions(found) == {"row 0": "one", "row 1": "two"}
    assert captions(find(DataRequest(folder=place))) == captions(found)
    first, second = Examples(found.records, asked)
    assert first.image.tobytes() == photo(0).tobytes()
    assert second.control_image is not None
    assert second.control_image.tobytes() == photo(3).tobytes()
    assert first.mask is not None
    assert second.mask is None
    columns = Columns(image="photo", caption="words")
    renamed = find(replace(asked, columns=columns))
    assert captions(renamed) == {"row 0": "sks dog", "row 1": "a photo of sks dog"}
    with pytest.raises(UserError, match=r"no column `imag`.*--image_column"):
        find(replace(asked, columns=Columns(image="imag")))
    with pytest.raises(UserError, match=r"`text`.*does not hold images"):
        find(replace(asked, columns=Columns(image="text")))


def test_a_dataset_without_a_part_to_train_on(tmp_path: Path, rows) -> None:
    import datasets

    datasets.DatasetDict({"test": rows, "dev": rows}).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(UserError, match=r"has no part `train`, but test, dev\."):
        find(DataRequest(dataset=str(tmp_path / "data")))


def test_imagefolder_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "sub/b.png", "text": "two"}]
    folder = imagefolder(tmp_path / "data", "jsonl", rows)
    asked = DataRequest(dataset=str(folder))
    found = find(asked)
    assert sorted(captions(found).values()) == ["one", "two"]
    assert {example.image.size for example in Examples(found.records, asked)} == {(96, 64)}


def test_datasets_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"`nobody/nothing` cannot be read.*cannot be reached"):
        find(DataRequest(dataset="nobody/nothing"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(UserError, match="cannot be read"):
        find(DataRequest(folder=tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        find(DataRequest(dataset="nobody/nothing"))


def test_masks(tmp_path: Path) -> None:
    for number, name in enumerate("abcd"):
        save(tmp_path / "photos" / f"{name}.png", number)
    half = Image.new("L", (96, 64), 0)
    half.paste(255, (0, 0, 48, 64))
    half.save(tmp_path / "photos" / "a-masklabel.png")
    (tmp_path / "masks").mkdir()
    half.resize((48, 32)).save(tmp_path / "masks" / "b.png")
    half.save(tmp_path / "masks" / "c-masklabel.png")
    asked = replace(request(tmp_path / "photos"), mask_dir=tmp_path / "masks", alpha_mask=True)
    clear = photo(3)
    clear.putalpha(half)
    clear.save(tmp_path / "photos" / "d.png")
    examples = usable_examples(asked)
    assert [example.name for example in examples] == ["a.png", "b.png", "c.png", "d.png"]
    for example in examples:
        assert example.mask is not None
        assert (example.mask.mode, example.mask.size) == ("L", example.image.size)
        assert example.mask.getpixel((10, 10)) == 255
        assert example.mask.getpixel((80, 10)) == 0
    white = Image.new("RGBA", half.size, (255, 255, 255, 0))
    white.putalpha(half)
    white.save(tmp_path / "photos" / "a-masklabel.png")  # the subject, cut out
    cut_out = usable_examples(asked)[0].mask
    assert cut_out is not None
    assert (cut_out.getpixel((10, 10)), cut_out.getpixel((80, 10))) == (255, 0)
    plain = replace(asked, mask_dir=None, alpha_mask=False)
    assert [example.mask is not None for example in usable_examples(plain)] == [
        True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(UserError, match="`mask_dir` is"):
        find(replace(asked, mask_dir=tmp_path / "nowhere"))


@pytest.mark.parametrize("ending", [".jpg", ".PNG"])
def test_masks_of_any_kind_are_found_and_missing_ones_told(tmp_path: Path, ending: str) -> None:
    for number, name in enumerate("ab"):
        save(tmp_path / "photos" / f"{name}.png", number)
    (tmp_path / "masks").mkdir()
    half = Image.new("L", (96, 64), 0)
    half.paste(255, (0, 0, 48, 64))
    half.save(tmp_path / "photos" / f"a-masklabel{ending}")
    found = find(replace(request(tmp_path / "photos"), mask_dir=tmp_path / "masks"))
    assert [record.mask is not None for record in found.records] == [True, False]
    assert "`b.png`: no mask such as `b.png`" in found.remarks[0]


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (Image.new("L", (50, 50), 255), "its mask has 50 x 50 pixels, the image 96 x 64"),
        (Image.new("L", (96, 64), 0), "black all over"),
    ],
)
def test_masks_that_cannot_be_meant(tmp_path: Path, mask: Image.Image, told: str) -> None:
    save(tmp_path / "a.png")
    mask.save(tmp_path / "a-masklabel.png")
    with pytest.raises(UserError, match=rf"`a\.png`.*{told}"):
        usable_examples(request(tmp_path))


def test_automatic_masks_need_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(UserError, match=r"rembg.*pip install.*--mask_dir"):
        find(replace(request(tmp_path), subject_mask=True))


def test_automatic_masks(tmp_path: Path) -> None:
    pytest.importorskip("rembg")
    save(tmp_path / "a.png")
    (example,) = usable_examples(replace(request(tmp_path), subject_mask=True))
    assert example.mask is not None


def test_examples_are_opened_when_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number, size=(40 + number, 30))
    examples = usable_examples(request(tmp_path), is_prior=True)
    (tmp_path / "1.png").unlink()
    assert examples[1].image.size == (41, 30)  # kept since it was looked at
    examples.close()
    assert len(examples) == 3
    assert [example.image.width for example in examples[::2]] == [40, 42]
    assert all(example.is_prior for example in examples[::2])
    with pytest.raises(FileError, match=r"1\.png"):
        examples[1]


def test_some_are_drawn_as_datasets_draws_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for number in range(12):
        save(tmp_path / f"{number:02}.png", number)
    examples = usable_examples(DataRequest(folder=tmp_path))
    names = [record.name for record in examples.records]
    theirs = datasets.Dataset.from_dict({"name": names}).shuffle(seed=7).select(range(5))["name"]
    drawn = examples.drawn(5, seed=7)
    assert [record.name for record in drawn.records] == sorted(theirs)
    assert drawn.samples_per_epoch == 5
    assert examples.drawn(12, seed=7) is examples.drawn(None, seed=7) is examples


def test_the_order_of_layouts_is_from_special_to_general() -> None:
    assert list(LAYOUTS) == ["imagefolder", "datasets", "webdataset", "kohya", "folder"]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/dreambooth")
def test_all_real_photos_are_read() -> None:
    folders = sorted(path for path in REAL.iterdir() if path.is_dir())
    examples = [example for folder in folders for example in usable_examples(request(folder))]
    assert len(examples) == 103
    assert {example.image.mode for example in examples} == {"RGB"}
    assert {example.caption for example in examples} == {"a photo of sks dog"}

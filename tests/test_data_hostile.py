"""What is wrong with data is told in one sentence that names the file and the remedy."""

import json
from pathlib import Path

import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.training.data.readers.layouts import find
from orthodiff.training.data.readers.records import DataRequest
from orthodiff.training.data.usable import usable_examples
from tests.photos import save


def told(folder: Path) -> str:
    """The sentence that a training refuses the folder with."""
    with pytest.raises(UserError) as refusal:
        usable_examples(DataRequest(folder=folder, caption="sks dog"))
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith((".", "?"))
    return str(refusal.value)


def test_no_folder(tmp_path: Path) -> None:
    assert "does not exist. Check the path" in told(tmp_path / "nowhere")
    assert "is a file. Give the folder" in told(save(tmp_path / "a.png"))


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "holds no images. Put 3 to 10 images" in told(tmp_path)
    (tmp_path / "movie.mov").write_bytes(b"x")
    assert "holds no images (there is `movie.mov`)" in told(tmp_path)


def test_a_folder_of_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path / name / "a.png")
    (tmp_path / "empty").mkdir()
    assert "only folders with images. Give one of them: `cat`, `dog`." in told(tmp_path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    (tmp_path / "notes.jpg").write_text("not an image")
    assert "`notes.jpg` cannot be used: it is not in a" in told(tmp_path)
    cut = save(tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    sentence = told(tmp_path)
    assert sentence.startswith("4 files of ")
    for part in (
        "`bomb.png` (it has more than 89 million pixels)",
        "`cut.jpg` (it is damaged",
        "`dot.png` (it has only 1 x 1 pixels)",
        "`notes.jpg` (it is not in a",
        "--skip_bad_files",
    ):
        assert part in sentence
    examples = usable_examples(DataRequest(folder=tmp_path), skip_bad_files=True)
    assert [example.name for example in examples] == ["good.png"]
    (tmp_path / "good.png").unlink()
    with pytest.raises(UserError, match="None of the 4 images"):
        usable_examples(DataRequest(folder=tmp_path), skip_bad_files=True)


def test_names_that_two_images_share(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", 0)
    save(tmp_path / "a.png", 1)
    assert len(usable_examples(DataRequest(folder=tmp_path))) == 2
    (tmp_path / "a.txt").write_text("whose?")
    assert "`a.png` cannot be used: it has the same caption or mask file as `a.jpg`. Rename" in (
        told(tmp_path)
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Bär".encode("latin-1"), r"not in UTF-8 (byte 1). Save it as UTF-8"),
        (b"a" * 20_000, "more than 10000 letters. Say it in a sentence or two"),
        (b"a" * 2_000_000, "more than 10000 letters"),
        (b"a\0b", "it is not text"),
    ],
)
def test_captions(tmp_path: Path, content: bytes, reason: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    sentence = told(tmp_path)
    assert "The caption `a.txt` cannot be used" in sentence
    assert reason in sentence


@pytest.mark.parametrize("link", ["a.png", "a.txt", "a-masklabel.png"])
def test_links_that_lead_out(tmp_path: Path, link: str) -> None:
    folder = tmp_path / "photos"
    save(folder / "a.png")
    secret = save(tmp_path / "secret.png", 7)
    (folder / link).unlink(missing_ok=True)
    (folder / link).symlink_to(secret)
    assert f"`{link}` cannot be used: it leads out of its folder. Copy" in told(folder)


def test_links_within_the_folder_and_the_hub_s_cache_are_fine(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / "abc"
    save(tmp_path / "blobs" / "123", format="PNG")
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to("../../blobs/123")
    (folder / "b.png").symlink_to("a.png")
    assert len(usable_examples(DataRequest(folder=folder))) == 2


ENTRIES = [
    ("../secret.png", "leads out of its folder"),
    ("/etc/passwd", "leads out of its folder"),
    ("nowhere.png", "there is no such file"),
    (".", "there is no such file"),
    ("a" * 5000 + ".png", "its path is not one"),
    ("a\0.png", "its path is not one"),
    ("loop.png", "its path is not one"),
    ("words.txt", "not in a"),
    (7, "is not text"),
]
LAYERS = [(column, *entry) for column in ("conditioning_image", "mask") for entry in ENTRIES]
NAMES = [
    ("file_name", name, reason)
    for name, reason in (
        *ENTRIES,
        (None, "it names no file_name"),
        ("b.png", "`b.png` is listed already"),
    )
]


@pytest.mark.parametrize(("column", "name", "reason"), [*NAMES, *LAYERS])
def test_entries_of_a_list(tmp_path: Path, column: str, name: object, reason: str) -> None:
    folder = tmp_path / "photos"
    save(tmp_path / "secret.png", 0)
    for number in ("b.png", "c.png"):
        save(folder / number)
    (folder / "words.txt").write_text("words")
    (folder / "loop.png").symlink_to("loop.png")
    good = {"file_name": "b.png", "text": "sks dog"}
    bad = {"file_name": "c.png", column: name}
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in (good, bad)))
    assert reason in told(folder)
    examples = usable_examples(DataRequest(folder=folder), skip_bad_files=True)
    assert [example.name for example in examples] == ["b.png"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"file_name": "a.png"', "line 2` cannot be used: it is not JSON"),
        (b"[1, 2]", "it is not a JSON object. Correct the line"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"file_name": "a.png", "text": "B\xe4r"}', "not in UTF-8"),
        (b'{"file_name": "a.png", "text": ["a"]}', "its text is not text"),
    ],
)
def test_broken_lines(tmp_path: Path, line: bytes, reason: str) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", 1)
    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "b.png"}\n' + line + b"\n\n")
    assert reason in told(tmp_path)
    assert "metadata.jsonl line 2" in told(tmp_path)


def test_lists_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("name,text\na.png,sks dog\n")
    assert "has no column `file_name`" in told(tmp_path)
    (tmp_path / "metadata.csv").write_bytes("file_name,text\na.png,Bär\n".encode("latin-1"))
    assert "The list `metadata.csv` cannot be used: its letters are not in UTF-8" in told(tmp_path)
    (tmp_path / "metadata.csv").write_text('file_name,text\na.png,"never ends\n')
    assert "it is not CSV" in told(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{}")
    assert "holds both metadata.jsonl and metadata.csv. Remove one" in told(tmp_path)


def test_rows_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    secret = save(tmp_path / "secret.png")
    cells = [
        {"bytes": secret.read_bytes(), "path": None},
        {"bytes": None, "path": str(secret)},
        {"bytes": b"no image", "path": "x.png"},
        None,
    ]
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": cells}, features=features)
    (tmp_path / "rows").mkdir()
    parquet.write_table(rows.data.table, tmp_path / "rows" / "train.parquet")
    sentence = told(tmp_path / "rows")
    assert "3 files" in sentence
    assert "`row 1` (it leads to a file outside the dataset)" in sentence
    assert "`row 3` (it is empty)" in sentence
    assert len(find(DataRequest(dataset=str(tmp_path / "rows"))).records) == 4

"""Tars of webdataset and Parquet files are read in place, in any order, as folders are."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.training.data.dataset import Examples
from orthodiff.training.data.readers.layouts import find
from orthodiff.training.data.readers.parquet import ParquetRows, parquet_files
from orthodiff.training.data.readers.records import DataRequest
from orthodiff.training.data.readers.streamed import StreamedRows
from orthodiff.training.data.usable import usable_examples
from tests.photos import photo
from tests.runs import train, weights


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            encoded = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(encoded)
            archive.addfile(info, io.BytesIO(encoded))
    return path


def tars(folder: Path) -> Path:
    write_tar(
        folder / "train-0000.tar",
        {
            "a/0.png": png(photo(0)),
            "a/0.txt": "sks dog",
            "a/0.mask.png": png(Image.new("L", (96, 64), 255)),
            "a/1.json": json.dumps({"caption": "sks dog asleep", "url": "x"}),
            "a/1.PNG": png(photo(1)),
            "a/1.conditioning_image.png": png(photo(8)),
            "a/1.cls": "7",
        },
    )
    write_tar(folder / "train-0001.tar", {"2.png": png(photo(2)), "README": "x", "only.txt": "x"})
    return folder


def test_tars(tmp_path: Path) -> None:
    asked = DataRequest(folder=tars(tmp_path), caption="a photo of sks dog")
    listing = find(asked)
    assert listing.layout == "webdataset tars"
    assert [(record.name, record.caption) for record in listing.records] == [
        ("train-0000.tar/a/0.png", "sks dog"),
        ("train-0000.tar/a/1.png", "sks dog asleep"),
        ("train-0001.tar/2.png", "a photo of sks dog"),
    ]
    assert listing.problems == []
    assert listing.remarks == ["`cls`, `txt`: files of these kinds are not read."]
    examples = Examples(listing.records, asked)
    for number in (2, 0, 1):
        assert examples[number].image.tobytes() == photo(number).tobytes()
    assert examples[0].mask is not None
    control_image = examples[1].control_image
    assert control_image is not None
    assert control_image.tobytes() == photo(8).tobytes()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"0.png": b"no image"}, r"`bad\.tar/0\.png` cannot be used: it is not in a"),
        ({"0.png": b"", "0.txt": b"caf\xe9"}, r"`bad\.tar/0\.txt` .*not in UTF-8"),
        ({"0.png": b"", "0.json": b"[" * 9}, r"`bad\.tar/0\.json` cannot be used: it is not JSON"),
        ({"0.png": b"", "0.txt": b"a" * 10**6}, r"`bad\.tar/0\.txt` .*1000000 bytes"),
    ],
)
def test_bad_members_are_named(tmp_path: Path, members: dict[str, bytes | str], told: str) -> None:
    write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(UserError, match=told):
        usable_examples(DataRequest(folder=tmp_path))


def test_tars_that_are_none_are_named(tmp_path: Path) -> None:
    whole = tars(tmp_path / "data") / "train-0000.tar"
    whole.write_bytes(whole.read_bytes()[:700])
    listing = find(DataRequest(folder=tmp_path / "data"))
    assert [problem.name for problem in listing.problems] == ["train-0000.tar"]
    assert [record.name for record in listing.records] == ["train-0001.tar/2.png"]
    (tmp_path / "data" / "more.tar.gz").touch()
    with pytest.raises(UserError, match=r"compressed tars \(`more\.tar\.gz`\)"):
        find(DataRequest(folder=tmp_path / "data"))


def write_parquet(path: Path, numbers: range, *, rows: int = 2) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(photo(number)), "path": None} for number in numbers]
    table = {"image": images, "text": [f"dog {number}" for number in numbers]}
    parquet.write_table(pyarrow.table(table), path, row_group_size=rows)


def test_parquet_is_read_in_place_a_group_of_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        start = 3 * number
        write_parquet(tmp_path / f"train-{number}.parquet", range(start, start + 3))
    write_parquet(tmp_path / "test-0.parquet", range(90, 91))
    monkeypatch.setattr("orthodiff.training.data.readers.hub_dataset._load", None)  # no library
    listing = find(DataRequest(folder=tmp_path))
    assert [record.caption for record in listing.records] == [f"dog {n}" for n in range(6)]
    examples = Examples(listing.records, DataRequest(folder=tmp_path))
    for number in (5, 0, 3, 2, 4, 1):
        assert examples[number].image.tobytes() == photo(number).tobytes()
    rows = ParquetRows(tmp_path, parquet_files(tmp_path))
    rows.cell(2, "image")
    assert rows._loaded is not None
    assert len(rows._loaded[1]) == 1  # the second group of the first file


def test_a_streamed_dataset_is_the_same_and_is_read_forwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for number in range(2):
        start = 3 * number
        write_parquet(tmp_path / "data" / f"train-{number}.parquet", range(start, start + 3))
    request = DataRequest(dataset=str(tmp_path), streaming=True)
    listing = find(request)
    assert [record.caption for record in listing.records] == [f"dog {n}" for n in range(6)]
    examples = Examples(listing.records, request)
    for number in (0, 1, 2, 4, 5, 3):  # the last goes back
        assert examples[number].image.tobytes() == photo(number).tobytes()
    assert not [*(tmp_path / "cache").rglob("*.arrow")]  # where a copy would lie


def test_a_stream_reads_each_row_once_where_rows_are_asked_for_in_order() -> None:
    datasets = pytest.importorskip("datasets")
    given = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(4):
            given.append(number)
            yield {"image": f"dog {number}".encode()}

    features = datasets.Features({"image": datasets.Value("binary")})
    stream = StreamedRows("dogs", datasets.IterableDataset.from_generator(rows, features=features))
    cells = [stream.cell(number, "image")["bytes"] for number in (0, 0, 1, 3)]
    assert cells == [b"dog 0", b"dog 0", b"dog 1", b"dog 3"]
    assert given == [0, 1, 2, 3]
    assert stream.cell(2, "image") == {"bytes": b"dog 2"}
    assert len(stream) == 4
    with pytest.raises(UserError, match="`dogs` broke off while it was streamed"):
        stream.cell(9, "image")


def test_what_cannot_be_streamed_is_one_sentence(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match="was written by `save_to_disk`"):
        find(DataRequest(dataset=str(tmp_path / "saved"), streaming=True))


def test_parquet_files_must_fit_together(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_parquet(tmp_path / "a.parquet", range(2))
    parquet.write_table(pyarrow.table({"other": [1]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"`b\.parquet` has other columns \(`other`\)"):
        find(DataRequest(folder=tmp_path))
    for name in "ab":
        (tmp_path / f"{name}.parquet").rename(tmp_path / f"val-{name}.parquet")
    with pytest.raises(UserError, match="of other splits alone"):
        find(DataRequest(folder=tmp_path))


def flat(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        photo(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"dog {number}")
    return folder


def in_tars(folder: Path) -> Path:
    members: dict[str, bytes | str] = {}
    for number in range(3):
        members |= {f"{number}.png": png(photo(number)), f"{number}.txt": f"dog {number}"}
    return write_tar(folder / "0.tar", members).parent


def in_parquet(folder: Path) -> Path:
    write_parquet(folder / "0.parquet", range(3))
    return folder


def test_a_training_is_the_same_from_any_of_them(tiny: Path, tmp_path: Path) -> None:
    results = []
    for number, layout in enumerate((flat, in_tars, in_parquet)):
        place = layout(tmp_path / f"data {number}")
        assert train(tiny, place, tmp_path / f"run {number}", max_train_steps=2) == 0
        results.append(weights(tmp_path / f"run {number}"))
    assert results[0] == results[1] == results[2]

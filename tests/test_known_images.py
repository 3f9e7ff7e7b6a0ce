"""Images are decoded once: at the first start while they are looked at, at the next not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.io import images
from orthodiff.training.data import dataset, fingerprint, provenance, usable
from orthodiff.training.data.readers.records import DataRequest
from orthodiff.training.data.table import ImageFacts, ImageTable, load_table, save_table
from orthodiff.training.data.usable import usable_examples
from pocket.painted.pairs import write_pairs
from tests.photos import save
from tests.runs import arguments, main, make_images, train, weights

MORE = {"max_train_steps": 2, "resume_from_checkpoint": "latest"}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of images that are decoded; files are old enough to be known by their times."""
    names: list[str] = []
    load = images._load

    def counted(source: Path | bytes, *, name: str) -> Image.Image:
        names.append(name)
        return load(source, name=name)

    monkeypatch.setattr(images, "_load", counted)
    monkeypatch.setattr(fingerprint, "FRESH", 0)
    return names


def test_a_training_decodes_each_photo_once_and_the_next_none(
    tiny: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_images(tmp_path / "pictures")
    assert train(tiny, photos, tmp_path / "whole", max_train_steps=2) == 0
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    decoded.clear()
    assert train(tiny, photos, tmp_path / "run", max_train_steps=1) == 0
    assert train(tiny, photos, tmp_path / "run", **MORE) == 0
    monkeypatch.setattr(usable, "find", None)  # nor is the folder read again
    assert train(tiny, photos, tmp_path / "again", max_train_steps=2) == 0
    assert decoded == []
    assert weights(tmp_path / "run") == weights(tmp_path / "whole") == weights(tmp_path / "again")


def test_class_images_are_decoded_once_whether_given_or_generated(
    tiny: Path, tmp_path: Path, decoded: list[str]
) -> None:
    photos, of_class = make_images(tmp_path / "photos"), tmp_path / "class"
    for number in range(2):
        save(of_class / f"dog-{number}.png", number)
    prior = {
        "with_prior_preservation": "true", "class_prompt": "a dog", "num_class_images": 3,
        "class_data_dir": of_class, "max_train_steps": 1,
    }  # fmt: skip
    assert train(tiny, photos, tmp_path / "first", **prior) == 0
    names = ["0.png", "1.png", "2.png", "class-00000.png", "dog-0.png", "dog-1.png"]
    assert sorted(decoded) == names
    decoded.clear()
    prior["cache_dir"] = tmp_path / "other"  # encoded anew, with nothing to generate
    assert train(tiny, photos, tmp_path / "second", **prior) == 0
    assert sorted(decoded) == names
    assert weights(tmp_path / "first") == weights(tmp_path / "second")


def test_images_that_do_not_fit_memory_are_decoded_once_too(
    tiny: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_images(tmp_path / "pictures")
    assert train(tiny, photos, tmp_path / "whole", max_train_steps=1) == 0
    decoded.clear()
    monkeypatch.setattr(dataset.OpenedImages.__init__, "__defaults__", (1,))
    flags = {"max_train_steps": 1, "cache_dir": tmp_path / "other"}
    assert train(tiny, photos, tmp_path / "run", **flags) == 0
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    whole = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(whole[: len(whole) // 2])
    assert train(tiny, photos, tmp_path / "bad", **flags) == 2
    assert train(tiny, photos, tmp_path / "bad", skip_bad_files="true", **flags) == 0


def test_only_what_changed_is_looked_at_again(tmp_path: Path, decoded: list[str]) -> None:
    folder, cache = tmp_path / "photos", tmp_path / "cache"
    for number in range(3):
        save(folder / f"{number}.png", number)

    def look() -> list[list[str]]:
        decoded.clear()
        examples = usable_examples(DataRequest(folder=folder), cache_dir=cache)
        examples.close()
        return examples.table.sums()

    before = look()
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    assert look() == before
    assert decoded == []
    save(folder / "3.png", 3)
    status = (folder / "1.png").stat()
    save(folder / "1.png", 7)
    os.utime(folder / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` would
    (folder / "2.txt").write_text("a dog")
    after = look()
    assert sorted(decoded) == ["1.png", "3.png"]
    assert [one == other for one, other in zip(before, after, strict=False)] == [True, False, False]
    assert usable_examples(DataRequest(folder=folder), cache_dir=cache)[2].caption == "a dog"


def test_fresh_files_are_not_trusted(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    usable_examples(DataRequest(folder=tmp_path / "photos"), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("harm", ["bit", "cut", "none"])
def test_a_damaged_table_is_made_again(tmp_path: Path, harm: str) -> None:
    rows = [ImageFacts(f"{n}.png", f"dog {n}", bytes([n]) * 32, (n + 1, 2)) for n in range(5)]
    table, path = ImageTable.of(rows, remarks=("one",)), tmp_path / "t.safetensors"
    save_table(table, path, "place")
    content = path.read_bytes()
    harmed = {"bit": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-1], "none": content}
    path.write_bytes(harmed[harm])
    loaded = load_table(path)
    if harm != "none":
        assert loaded is None
        return
    assert loaded is not None
    assert loaded[1] == "place"
    assert [loaded[0][row] for row in range(5)] == rows
    assert loaded[0].select([1, 3])[1] == rows[3]
    assert loaded[0].remarks == ("one",)


def test_control_images_are_checked_once(
    tiny: Path, tmp_path: Path, decoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs("segmentation", 3, tmp_path / "data", size=32)
    words = arguments(tiny, tmp_path / "none", tmp_path / "run", max_train_steps=1)
    place = words.index("--instance_data_dir")
    words[0] = "control"
    words[place : place + 4] = ["--train_data_dir", str(tmp_path / "data")]
    remarks = []
    for count in (6, 0):
        decoded.clear()
        assert main([*words, "--overwrite_output_dir"]) == 0
        assert len(decoded) == count
        errors = capsys.readouterr().err
        remarks.append([line for line in errors.splitlines() if line.startswith("note:")])
    assert remarks[0] == remarks[1]


def test_many_images_are_known_by_one_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    def sums(*names: str) -> provenance.Sums:
        rows = [ImageFacts(name, "", name.encode().ljust(32), (1, 1)) for name in names]
        return provenance._all_sums(ImageTable.of(rows))

    few = sums("a", "b")
    monkeypatch.setattr(provenance, "MAX_SUMS", 1)
    many = sums("a", "b")
    assert isinstance(many, dict)
    assert provenance._differ(many, many) is None
    assert provenance._differ(many, few) is None  # of a checkpoint that kept each
    assert "their order" in (provenance._differ(sums("b", "a"), many) or "")
    assert "there are 3" in (provenance._differ(sums("a", "b", "c"), few) or "")


def test_a_problem_found_late_names_every_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"2 files of .*`a\.png`.*`b\.png`"):
        usable_examples(DataRequest(folder=tmp_path))

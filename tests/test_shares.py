"""Class images and validation are shared out over processes: each part done once, the same set."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from orthodiff.training.events.history import read_history
from orthodiff.training.run.shares import Shares
from tests.forks import fork_group
from tests.runs import arguments, make_images, train
from tests.test_many_processes import end

FLAGS = {
    "with_prior_preservation": "true",
    "class_prompt": "a photo of a dog",
    "num_class_images": 5,
    "sample_batch_size": 2,
    "validation_prompt": "a photo of sks dog",
    "num_validation_images": 5,
    "validation_samples": 5,
    "max_train_steps": 1,
}
MODULES = ("tasks.prior", "validation.validator")


def record(folder: Path) -> None:
    """From here on this process writes down the seeds of the images that it makes."""
    import importlib

    for name in MODULES:
        module = importlib.import_module(f"orthodiff.training.{name}")
        module.generate = partial(
            _recorded, module.generate, folder / f"{name}.{os.environ['RANK']}"
        )


def _recorded(generate, path: Path, base, request, **more):
    with path.open("a") as file:
        file.write(" ".join(map(str, request.seeds)) + "\n")
    return generate(base, request, **more)


def images(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob(pattern)}


@pytest.fixture(scope="module")
def alone(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one process, its pictures beside it."""
    folder = tmp_path_factory.mktemp("alone")
    pictures = make_images(folder / "pictures", count=4)
    assert train(tiny, pictures, folder / "run", train_batch_size=2, **FLAGS) == 0
    return folder


@pytest.mark.parametrize("are_apart", [True, False])
def test_two_processes_make_each_image_once_and_the_same_as_one(
    tiny: Path, alone: Path, tmp_path: Path, are_apart: bool
) -> None:
    folders = [tmp_path / (f"{rank}" if are_apart else "both") for rank in range(2)]
    words = [
        arguments(
            tiny, alone / "pictures", folder / "run", cache_dir=folder / "cache",
            train_batch_size=1, **FLAGS,
        )
        for folder in folders
    ]  # fmt: skip
    assert end(fork_group(words, tmp_path, before=partial(record, tmp_path))) == [0, 0]
    seeds = {
        (name, rank): (tmp_path / f"{name}.{rank}").read_text().splitlines()
        for name in MODULES
        for rank in range(2)
    }
    assert seeds["tasks.prior", 0] == ["0 1", "4"]
    assert seeds["tasks.prior", 1] == ["2 3"]
    assert seeds["validation.validator", 0] == ["0 1 2 3"] * 2  # before the run and after it
    assert seeds["validation.validator", 1] == ["4"] * 2
    class_images = images(alone / "cache", "class-*.png")
    assert len(class_images) == 5
    assert [images(folder / "cache", "class-*.png") for folder in folders] == [class_images] * 2
    samples = "samples/step-000000"
    assert images(folders[0] / "run" / samples, "*.png") == images(alone / "run" / samples, "*.png")
    assert len(images(folders[0] / "run", "0?.png")) == 5
    together, single = (read_history(f / "run").scores for f in (folders[0], alone))
    assert together[0]["loss"] == pytest.approx(single[0]["loss"], rel=1e-12)


def count_encoding(folder: Path) -> None:
    """From here on this process writes down the images that it encodes."""
    from orthodiff.training.latents import encode

    before = encode._encode_image

    def encode_image(base, example, facts, samples):
        with (folder / f"encoded.{os.environ['RANK']}").open("a") as file:
            file.write(f"{example.name}\n")
        before(base, example, facts, samples)

    encode._encode_image = encode_image


def test_each_cache_is_filled_by_those_who_see_it_together(tiny: Path, tmp_path: Path) -> None:
    """As on two nodes, the first with two processes: every image once in each cache."""
    images = make_images(tmp_path / "images", count=5)
    words = [
        arguments(
            tiny, images, tmp_path / f"{rank}" / "run", cache_dir=tmp_path / f"cache-{node}",
            train_batch_size=1, max_train_steps=1,
        )
        for rank, node in enumerate("aab")
    ]  # fmt: skip
    assert end(fork_group(words, tmp_path, before=partial(count_encoding, tmp_path))) == [0] * 3
    names = [(tmp_path / f"encoded.{rank}").read_text().split() for rank in range(3)]
    assert [len(each) for each in names] == [3, 2, 5]
    assert sorted(names[0] + names[1]) == sorted(names[2])
    assert len(set(names[2])) == 5
    assert not list((tmp_path / "cache-a").glob(".*"))


def test_one_process_alone_does_all_the_work() -> None:
    shares = Shares()
    assert shares.is_main
    assert shares.seeing(Path("nowhere")) == [0]
    assert shares.map(lambda part: part * 2, [1, 2, 3]) == [2, 4, 6]
    with pytest.raises(ZeroDivisionError):
        shares.map(lambda part: 1 / part, [1, 0])

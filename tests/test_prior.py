"""Class images: given ones are used, missing ones made once, gaps and damage mended."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.training.tasks.dreambooth import DreamBoothConfig
from tests.runs import make_images, train


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny))


def config(cache: Path, **more: object) -> DreamBoothConfig:
    default = {
        "pretrained_model_name_or_path": "base",
        "instance_data_dir": "pictures",
        "instance_prompt": "a photo of sks dog",
        "class_prompt": "a photo of a dog",
        "with_prior_preservation": True,
        "num_class_images": 5,
        "sample_batch_size": 2,
        "cache_dir": cache,
    }
    return DreamBoothConfig(**{**default, **more})  # type: ignore[arg-type]


def made(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_images_are_made_once_per_base_prompt_seed_and_resolution(
    base: Base, tmp_path: Path
) -> None:
    examples = config(tmp_path).class_images.examples(base, resolution=32)
    assert [example.caption for example in examples] == ["a photo of a dog"] * 5
    assert all(example.is_prior for example in examples)
    assert len({example.image.tobytes() for example in examples}) == 5
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    config(tmp_path).class_images.examples(base, resolution=32)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    for more, resolution in (({"seed": 1}, 32), ({"class_prompt": "dog"}, 32), ({}, 16)):
        config(tmp_path, **more).class_images.examples(base, resolution=resolution)
    assert len(list((tmp_path / "class").iterdir())) == 4
    half = load_base(str(base.folder), dtype=torch.bfloat16)
    config(tmp_path).class_images.examples(half, resolution=32)
    assert len(list((tmp_path / "class").iterdir())) == 5


@pytest.mark.parametrize("harm", ["gap", "damage"])
def test_a_partly_filled_folder_is_completed(base: Base, tmp_path: Path, harm: str) -> None:
    config(tmp_path).class_images.examples(base, resolution=32)
    whole = made(tmp_path)
    assert sorted(whole) == [f"class-{n:05d}.png" for n in range(5)]
    for name in ("class-00001.png", "class-00004.png"):
        (path,) = tmp_path.rglob(name)
        path.unlink() if harm == "gap" else path.write_bytes(whole[name][:50])
    (folder,) = (tmp_path / "class").iterdir()
    (folder / ".class-00004.png.123.tmp").write_bytes(b"left by a crash")
    assert len(config(tmp_path).class_images.examples(base, resolution=32)) == 5
    again = made(tmp_path)
    assert {name: again[name] for name in whole} == whole


@pytest.mark.parametrize(
    ("batch", "remedy"), [(4, "--sample_batch_size 2."), (1, "--prior_generation_precision bf16")]
)
def test_memory_running_out_names_what_helps(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, remedy: str
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("orthodiff.training.tasks.prior.generate", exhausted)
    with pytest.raises(UserError) as caught:
        config(tmp_path, sample_batch_size=batch).class_images.examples(base, resolution=32)
    assert remedy in str(caught.value)


def test_given_images_are_used_first_and_only_the_rest_is_made(base: Base, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(given / f"dog {number}.png")
    settings = config(tmp_path, class_data_dir=given)
    names = [example.name for example in settings.class_images.examples(base, resolution=32)]
    assert names == ["dog 0.png", "dog 1.png", "dog 2.png", "class-00000.png", "class-00001.png"]
    fewer = config(tmp_path, class_data_dir=given, num_class_images=2)
    names = [example.name for example in fewer.class_images.examples(base, resolution=32)]
    assert names == ["dog 0.png", "dog 1.png"]
    assert len(list(given.iterdir())) == 5


def test_a_folder_that_lacks_images_and_cannot_be_written_is_told_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    elsewhere = tmp_path / "file" / "class"  # not even root can make that
    with pytest.raises(UserError) as caught:
        config(tmp_path, class_data_dir=elsewhere).class_images.check()
    assert str(caught.value) == (
        f"5 of 5 class images have to be generated, but `{elsewhere}` cannot be written. "
        "Choose another --class_data_dir, or lower --num_class_images."
    )
    config(tmp_path, class_data_dir=tmp_path / "new").class_images.check()
    assert not (tmp_path / "new").exists()


def test_class_images_are_judged_before_anything_is_replaced(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "pictures")
    of_class = make_images(tmp_path / "class", 1)
    assert train(tiny, images, tmp_path / "run", max_train_steps=1) == 0
    Image.new("RGB", (1, 1)).save(of_class / "dot.png")
    flags = {
        "with_prior_preservation": "true", "class_prompt": "a dog", "num_class_images": 2,
        "overwrite_output_dir": "true",
    }  # fmt: skip
    for folder, told in ((of_class, "it has only 1 x 1 pixels"), (images, "of its own")):
        assert train(tiny, images, tmp_path / "run", class_data_dir=folder, **flags) == 2
        assert told in capsys.readouterr().err
        assert (tmp_path / "run" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
def test_images_of_another_base_are_not_those_of_this_one(
    base: Base, tmp_path: Path, part: str
) -> None:
    """Whatever part of a base makes them differ, its autoencoder too."""
    images = config(tmp_path, num_class_images=1).class_images
    images.examples(base, resolution=32)
    other = replace(base, fingerprints={**base.fingerprints, part: "another"})
    images.examples(other, resolution=32)
    assert len(list((tmp_path / "class").iterdir())) == 2

"""`training check`: everything there is to say about data, before any training."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from orthodiff.training.cli.main import main
from orthodiff.training.data.readers.records import DataRequest
from orthodiff.training.data.report.advice import BLURRED
from orthodiff.training.data.report.check import DataReport, check
from orthodiff.training.data.report.image_stats import difference_hash, sharpness
from orthodiff.training.data.views import Views
from orthodiff.training.loop import Trainer
from orthodiff.training.optim.step import Update
from pocket.painted.pairs import write_pairs
from tests.photos import photo, save
from tests.runs import train

REAL = Path(__file__).parent.parent.parent / "shared" / "dreambooth"


def report(folder: Path, *, resolution: int = 64, trigger: str | None = None) -> DataReport:
    views = Views(resolution=resolution, buckets=((resolution, resolution),), step=8)
    return check(
        DataRequest(folder=folder, caption="a photo of sks dog"), views=views, trigger=trigger
    )


def advice(folder: Path, **how: object) -> dict[str, tuple[str, ...]]:
    return {told.about: told.files for told in report(folder, **how).advice}


def three(folder: Path) -> Path:
    """Good images, so that a further one is the only one with something wrong."""
    for number in range(3):
        save(folder / f"{number}.png", number, size=(80, 64))
    return folder


def test_good_images_get_no_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(three(tmp_path)).advice == []
    assert main(["check", str(tmp_path), "--resolution=64", "--instance_prompt=sks dog"]) == 0
    told = capsys.readouterr().out
    assert "a flat folder, 3 images of 80 x 64 pixels" in told
    assert "at 64 pixels: 20% of the images is cut away" in told
    assert "all is well" in told


def test_duplicates_exact_and_near(tmp_path: Path) -> None:
    three(tmp_path)
    photo(0, (80, 64)).save(tmp_path / "again.tif")
    photo(1, (80, 64)).resize((160, 128)).save(tmp_path / "larger.jpg", quality=80)
    told = advice(tmp_path)
    assert told["duplicates"] == ("0.png", "again.tif")
    assert told["near_duplicates"] == ("1.png", "larger.jpg")


def test_plain_images_of_different_colours_are_not_alike(tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{colour}.png")
    told = advice(three(tmp_path))
    assert "near_duplicates" not in told
    assert told["blurred"] == ("blue.png", "red.png")


def test_blurred_tiny_and_cropped(tmp_path: Path) -> None:
    three(tmp_path)
    photo(5, (200, 200)).filter(ImageFilter.GaussianBlur(12)).save(tmp_path / "soft.png")
    save(tmp_path / "small.png", 6, size=(40, 40))
    save(tmp_path / "wide.png", 7, size=(200, 64))
    told = advice(tmp_path)
    assert told["blurred"] == ("soft.png",)
    assert told["tiny"] == ("small.png",)
    assert told["cropped"] == ("wide.png",)


def test_captions(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "0.txt").write_text("A photo of SKS dog")
    (tmp_path / "1.txt").write_text("a dog")
    (tmp_path / "2.txt").write_text("sks dog " * 50)
    told = advice(tmp_path, trigger="sks dog")
    assert told["trigger"] == ("1.png",)
    assert told["long_captions"] == ("2.png",)


def test_few_and_uncaptioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clear = photo(0, (64, 64))
    clear.putalpha(Image.linear_gradient("L").resize((64, 64)))
    clear.save(tmp_path / "a.png")
    assert set(advice(tmp_path)) == {"few", "transparent"}
    assert main(["check", str(tmp_path), "--resolution=64"]) == 0
    assert "no caption" in capsys.readouterr().out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path)
    (tmp_path / "0.txt").write_text("a sks dog, sitting")
    (tmp_path / "bad.jpg").write_text("no image")
    assert main(["check", str(tmp_path), "--resolution", "64", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["usable"] is False
    assert told["problems"][0]["file"] == "bad.jpg"
    assert told["problems"][0]["text"].endswith("Replace or remove this file.")
    assert told["pictures"][0]["size"] == [80, 64]
    assert told["pictures"][0]["own_caption"] is True
    assert told["pictures"][0]["cropped"] == pytest.approx(0.2)


def test_all_problems_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.jpg").write_text("words")
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "1.txt").write_bytes("Bär".encode("latin-1"))
    (tmp_path / "2.txt").write_text("no trigger")
    before = sorted(tmp_path.iterdir())
    flags = ["--resolution=64", "--instance_prompt=a photo of sks dog"]
    assert main(["check", str(tmp_path), *flags]) == 2
    told = capsys.readouterr().out
    assert "5 cannot be used:" in told
    for part in ("cut.png", "words.jpg", "bomb.png", "dot.png", "`1.txt`", "mention “sks”"):
        assert part in told
    assert sorted(tmp_path.iterdir()) == before


def test_kohya_repeats_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path / "10_sks dog")
    save(tmp_path / "2_dog" / "a.png", 9)
    assert main(["check", str(tmp_path), "--resolution=64"]) == 0
    assert "32 samples (1 repeated 2 times, 3 repeated 10 times)" in capsys.readouterr().out


def test_buckets_cut_away_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number, size=(192, 96))
    shares = []
    for flags in ([], ["--enable_bucket"]):
        assert main(["check", str(tmp_path), "--resolution=64", "--json", *flags]) == 0
        told = json.loads(capsys.readouterr().out)
        shares.append(told["pictures"][0]["cropped"])
    assert shares[0] == pytest.approx(0.5)
    assert shares[1] < 0.1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Say which images"),
        (["nowhere"], "does not exist"),
        (["x", "--resolutoin=8"], "Did you mean `--resolution`"),
    ],
)
def test_bad_requests(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1


def test_a_training_refuses_the_same_files(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(tmp_path / "photos")
    (tmp_path / "photos" / "words.jpg").write_text("words")
    assert train(tiny, tmp_path / "photos", tmp_path / "run") == 2
    assert "words.jpg" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert train(tiny, tmp_path / "photos", tmp_path / "run", skip_bad_files=True) == 0
    assert "note: Left out: " in capsys.readouterr().err


def test_a_training_on_a_kohya_tree_reads_the_folders_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_step, prompts = Trainer.step, set()

    def step(self: Trainer, *given: Any) -> Update:
        prompts.update(chain.from_iterable(batch.prompts for batch in self.batches(given[0])))
        return one_step(self, *given)

    monkeypatch.setattr(Trainer, "step", step)
    three(tmp_path / "photos" / "3_sks dog")
    assert train(tiny, tmp_path / "photos", tmp_path / "run", max_train_steps=1) == 0
    assert prompts == {"sks dog"}


def test_maps_are_checked_as_a_training_checks_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs("segmentation", 3, tmp_path, size=32)
    words = ["check", str(tmp_path), "--resolution=32"]
    assert main(words) == 0
    photo(0, (32, 32)).save(tmp_path / "maps" / "00001.png")
    assert main(words) == 2
    told = capsys.readouterr().out
    assert "1 cannot be used:\n  The control image of `images/00001.png` cannot be used: " in told
    assert main([*words, "--condition_type=canny"]) == 2
    assert "the control images of" in capsys.readouterr().err
    about = json.loads((tmp_path / "condition.json").read_text())
    (tmp_path / "condition.json").unlink()  # nobody says what they are
    assert main(words) == 0
    assert main([*words, "--condition_type=canny"]) == 2
    assert "3 cannot be used:" in capsys.readouterr().out
    settings = [f"{name}={value}" for name, value in about["settings"].items()]
    kind = ["--condition_type=segmentation", "--condition_setting", *settings]
    assert main([*words, *kind]) == 2
    assert "1 cannot be used:" in capsys.readouterr().out


def test_maps_that_lack_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path)
    for kind, told in (("canny", "are computed"), ("depth", "cannot be computed without a model")):
        assert main(["check", str(tmp_path), f"--condition_type={kind}"]) == 0
        assert told in capsys.readouterr().out


def test_sharpness_falls_with_blur_and_likeness_survives_it() -> None:
    sharp = photo(0, (256, 256))
    soft = sharp.filter(ImageFilter.GaussianBlur(3))
    assert sharpness(sharp, 256) > BLURRED > sharpness(soft, 256)
    assert (difference_hash(sharp) ^ difference_hash(soft)).bit_count() <= 2
    others = [difference_hash(photo(seed)) ^ difference_hash(sharp) for seed in range(1, 20)]
    assert np.mean([bits.bit_count() for bits in others]) > 16


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/dreambooth")
def test_all_real_photos_pass(tmp_path: Path) -> None:
    """Nothing is wrong with any of them, and blurring makes every one be called blurred."""
    count = 0
    for folder in sorted(path for path in REAL.iterdir() if path.is_dir()):
        found = report(folder, resolution=512)
        assert (found.problems, found.advice) == ([], [])
        count += len(found.images)
        photo = Image.open(sorted(folder.glob("*.jpg"))[0])
        assert sharpness(photo.filter(ImageFilter.GaussianBlur(4)), 512) < BLURRED
    assert count == 103


def wide(folder: Path) -> Path:
    """Images whose masks lie far left, where a square in the middle does not reach."""
    for number in range(2):
        save(folder / f"{number}.png", number, size=(192, 48))
        mask = Image.new("L", (192, 48))
        mask.paste(255, (0, 0, 24, 48))
        mask.save(folder / f"{number}-masklabel.png")
    return folder


def test_a_mask_that_is_cut_away_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = wide(tmp_path / "wide")
    assert len(report(images).problems) == 2
    assert train(tiny, images, tmp_path / "run") == 2
    assert "its mask lies in the part that is cut away" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert train(tiny, images, tmp_path / "run", crop="none") == 0
    held = {"validation_data_dir": images, "overwrite_output_dir": "true"}
    held["cache_dir"] = tmp_path / "nothing known yet"
    assert train(tiny, three(tmp_path / "three"), tmp_path / "run", **held) == 2
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    three(images)  # replaces two, whose masks stay
    save(images / "whole.png", 5, size=(48, 48))
    assert train(tiny, images, tmp_path / "some", skip_bad_files="true") == 0


def test_random_views_show_some_of_the_mask() -> None:
    views = Views(resolution=32, buckets=((32, 32),), step=8, crop="random", count=40)
    mask = Image.new("L", (192, 48))
    mask.paste(255, (0, 0, 24, 48))
    shown = views.showing("a", mask, mask.size)
    assert 0 < len(shown) < len(views.of("a", mask.size))
    assert all(view.cut(mask, Image.Resampling.BILINEAR).getbbox() for view in shown)
    assert views.showing("a", None, mask.size) == views.of("a", mask.size)

"""Runs with every option of the data room: they train, repeat themselves and go on bit for bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orthodiff.io.images import open_image
from orthodiff.training.events.log import read_events
from orthodiff.training.options import DataOptions
from orthodiff.training.validation.scores import ValidationScorer
from tests.runs import train, weights
from tests.tiny import with_prediction

ALL = {
    "enable_bucket": "true",
    "min_bucket_reso": 16,
    "crop": "random",
    "num_crops": 2,
    "random_flip": "true",
    "color_jitter": 0.1,
    "shuffle_caption": "true",
    "keep_tokens": 1,
    "num_shuffles": 3,
    "trigger_phrase": "zwx",
    "caption_dropout_rate": 0.3,
    "noise_offset": 0.05,
    "snr_gamma": 5,
    "instance_prompt": "a photo of sks dog, on grass, at noon",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of three shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate([(48, 48), (64, 32), (32, 64), (66, 32), (40, 40)]):
        pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_events(folder / "events.jsonl") if e["event"] == "Step"]


def test_all_options_together_repeat_themselves(tiny: Path, images: Path, tmp_path: Path) -> None:
    prior = {
        "with_prior_preservation": "true",
        "class_prompt": "a photo of a dog",
        "num_class_images": 2,
    }
    for name in ("a", "b"):
        assert train(tiny, images, tmp_path / name, **ALL, **prior) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_run_over_many_shapes_goes_on_where_it_stopped(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "whole", max_train_steps=6, **ALL)
    part = tmp_path / "part"
    train(tiny, images, part, max_train_steps=3, checkpointing_steps=3, **ALL)
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 6}
    assert train(tiny, images, part, **again, **ALL) == 0
    assert weights(part) == weights(tmp_path / "whole")
    assert losses(part) == losses(tmp_path / "whole")


def test_accumulated_batches_of_many_shapes_equal_large_ones(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "large", train_batch_size=4, max_train_steps=3, **ALL)
    small = {"train_batch_size": 1, "gradient_accumulation_steps": 4, "max_train_steps": 3}
    train(tiny, images, tmp_path / "small", **small, **ALL)
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), rel=1e-4)


def test_options_of_captions_and_noise_change_what_is_learned(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    options = {"noise_offset": 0.1, "caption_dropout_rate": 1, "trigger_phrase": "zwx"}
    found = {weights_of(tiny, images, tmp_path / "plain")}
    for name, value in options.items():
        found.add(weights_of(tiny, images, tmp_path / name, **{name: value}))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("flags", "number", "shapes"),
    [
        ({}, 1, {(32, 32)}),
        ({"center_crop": False}, 4, {(32, 32)}),
        ({"crop": "random", "num_crops": 2, "random_flip": True}, 4, {(32, 32)}),
        ({"color_jitter": 0.1, "num_crops": 3}, 3, {(32, 32)}),
        ({"crop": "none"}, 1, {(44, 24), (24, 44)}),
        ({"enable_bucket": True}, 1, {(44, 20), (20, 44)}),
        ({"enable_bucket": True, "max_bucket_reso": 40}, 1, {(40, 20), (20, 40)}),
        ({"aspect_ratio_buckets": "20,48;48,20"}, 1, {(48, 20), (20, 48)}),
    ],
)
def test_options_say_how_images_are_seen(
    flags: dict[str, object], number: int, shapes: set[tuple[int, int]]
) -> None:
    views = DataOptions(**flags).views(32, factor=4, seed=0)  # type: ignore[arg-type]
    seen = [view for size in ((200, 100), (100, 200)) for view in views.of("a", size)]
    assert len(seen) == 2 * number
    assert {view.size for view in seen} == shapes


def weights_of(tiny: Path, images: Path, out: Path, **flags: object) -> bytes:
    assert train(tiny, images, out, max_train_steps=1, **flags) == 0
    return weights(out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"min_bucket_reso": 16}, "no buckets. Add --enable_bucket"),
        ({"enable_bucket": "true", "min_bucket_reso": 64}, "leave out the square of 32"),
        ({"enable_bucket": "true", "bucket_reso_steps": 9}, "multiples of 4. Use 8"),
        ({"enable_bucket": "true", "aspect_ratio_buckets": "32,32"}, "Leave one of them out"),
        ({"aspect_ratio_buckets": "32;32"}, "height,width pairs"),
        ({"aspect_ratio_buckets": "32,30"}, "multiples of 4. Use 32"),
        ({"crop": "none", "enable_bucket": "true"}, "keeps its own shape"),
        ({"crop": "center", "center_crop": "false"}, "Leave one of them out"),
        ({"crop": "random", "center_crop": "true"}, "Leave one of them out"),
        ({"crop": "middle"}, "`crop` is 'middle'"),
        ({"keep_tokens": 1}, "Add --shuffle_caption"),
        ({"caption_dropout_rate": 1.5}, "caption_dropout_rate"),
    ],
)
def test_contradictory_options_are_refused_before_anything_is_written(
    tiny: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: dict[str, object],
    message: str,
) -> None:
    assert train(tiny, images, tmp_path / "run", **flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_zero_terminal_snr_bases_train_and_paint(tiny: Path, images: Path, tmp_path: Path) -> None:
    base = with_prediction(tiny, tmp_path / "base", "v_prediction")
    path = base / "scheduler" / "scheduler_config.json"
    scheduler = json.loads(path.read_text("utf-8"))
    zero_terminal = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    path.write_text(json.dumps({**scheduler, **zero_terminal}), "utf-8")
    out = tmp_path / "run"
    flags = {"snr_gamma": 5, "validation_prompt": "sks dog", "max_train_steps": 3}
    assert train(base, images, out, **flags) == 0
    assert all(np.isfinite(losses(out)))
    painted = [np.asarray(open_image(path)) for path in out.glob("samples/*/*.png")]
    assert len(painted) == 2
    assert all(pixels.std() > 5 for pixels in painted)


def test_masked_images_teach_what_the_mask_shows(tiny: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masked"
    shutil.copytree(images, folder)
    for image in images.glob("*.png"):
        with Image.open(image) as opened:
            size = opened.size
        mask = Image.new("L", size, 0)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        mask.save(folder / f"{image.stem}-masklabel.png")
    flags = {"max_train_steps": 2}
    train(tiny, images, tmp_path / "plain", **flags)
    plain = losses(tmp_path / "plain")
    found = {}
    for weight in (0.0, 0.5, 1.0):
        train(tiny, folder, tmp_path / str(weight), unmasked_weight=weight, **flags)
        found[weight] = losses(tmp_path / str(weight))
    assert found[1.0] == pytest.approx(plain, rel=1e-5)
    for weight in (0.0, 0.5):
        assert found[weight] != pytest.approx(plain, rel=1e-4)
    assert found[0.0] != pytest.approx(found[0.5], rel=1e-4)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo of sks dog in the snow", "a photo of a dog in the snow"),
        ("a photo of sks doghouse", "a photo of sks doghouse"),
    ],
)
def test_prompts_are_scored_by_the_class_in_whole_words(prompt: str, words: str) -> None:
    scorer = ValidationScorer(
        None,  # type: ignore[arg-type]
        [],
        instance_prompt="a photo of sks dog",
        device=torch.device("cpu"),
    )
    assert scorer._in_class_words(prompt) == words

"""The studio's parts without a browser: forms, requests, cards, photos, pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from orthodiff import ADAPTERS
from orthodiff.cli.generate import GenerateOptions
from orthodiff.errors import UserError
from orthodiff.io.png_metadata import read_recipe
from orthodiff.studio.html import elements as cards
from orthodiff.studio.html.loss_plot import loss_curve
from orthodiff.studio.serve import check_bases
from orthodiff.studio.services.jobs.status import Status
from orthodiff.studio.services.photos import look_at_photos, open_photos, read_examples
from orthodiff.studio.services.sampler import Painter
from orthodiff.studio.services.training_request import (
    TrainForm,
    in_contexts,
    make_config,
    name_prompt,
)
from orthodiff.studio.widgets.forms import read_settings, settings_of, whole
from tests.photos import save
from tests.runs import ROOT, make_pictures, train

FORM = TrainForm(
    base="base",
    prompt="a photo of sks dog",
    method="hra",
    settings={"rank": 8, "regularization": 0, "strict": False},
    steps=300,
    learning_rate=3e-3,
    batch_size=4,
    seed=0,
    sample_every=100,
    sample_prompts="a photo of sks dog in the snow\n\n  on the beach ",
)


@pytest.mark.parametrize("method", ADAPTERS)
def test_every_method_s_form_gives_its_defaults(method: str) -> None:
    fields = settings_of(method)
    read = read_settings(method, {field.name: field.default for field in fields})
    assert ADAPTERS[method](**read) == ADAPTERS[method]()
    assert all(field.help for field in fields)


def test_a_form_becomes_a_configuration() -> None:
    config = make_config(FORM, bases=["base"], folder=Path("runs/x"))
    assert config.output_dir == Path("runs/x")
    assert config.instance_data_dir == Path("runs/x/photos")
    assert config.validation_prompt == ("a photo of sks dog in the snow", "on the beach")
    assert config.adapter() == ADAPTERS["hra"](rank=8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base": "/etc"}, "not offered"),
        ({"prompt": "  "}, "prompt that names your subject is empty"),
        ({"settings": {**FORM.settings, "rank": 7}}, "Use an even rank"),
        ({"settings": {**FORM.settings, "rank": None}}, "Rank is empty"),
        ({"settings": {**FORM.settings, "rank": 7.5}}, "whole number"),
        ({"steps": 0}, "Steps is 0. Use at least 1"),
        ({"steps": None}, "Steps is empty"),
        ({"steps": 10**9}, "at most"),
        ({"learning_rate": 0}, "Use more than 0"),
        ({"learning_rate": float("nan")}, "Learning rate is empty"),
        ({"seed": -1}, "Seed is -1"),
        ({"batch_size": 1.5}, "whole number"),
    ],
)
def test_a_bad_field_is_told_in_one_sentence(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_config(replace(FORM, **changes), bases=["base"], folder=Path("runs/x"))


def test_whole_takes_what_a_slider_gives() -> None:
    assert whole("Pictures", 4.0) == 4


def test_prompts_for_a_subject() -> None:
    assert name_prompt(" toy duck ") == "a photo of sks toy duck"
    assert in_contexts("a cat").splitlines()[0] == "a cat in the snow"


def test_photos_lose_their_hidden_data_and_keep_their_side_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    (photo,) = open_photos([tmp_path / "a.jpg"])
    assert photo.size == (20, 40)
    assert not photo.getexif()


@pytest.mark.parametrize(("count", "told"), [(0, "no photos yet"), (51, "too many")])
def test_the_number_of_photos(tmp_path: Path, count: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        open_photos([tmp_path / "x.png"] * count)


def test_an_unreadable_photo_is_named_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("not a picture")
    with pytest.raises(UserError, match=r"`holiday\.jpg`") as told:
        open_photos([tmp_path / "holiday.jpg"])
    assert str(tmp_path) not in str(told.value)


def test_all_unreadable_photos_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("not a picture")
    with pytest.raises(UserError, match=r"2 photos cannot be used: `a\.jpg` .*, `b\.png`"):
        open_photos([tmp_path / "a.jpg", tmp_path / "b.png"])


def test_the_report_on_photos(tmp_path: Path) -> None:
    photos = [save(tmp_path / f"{number}.png", number, size=(80, 64)) for number in range(3)]
    card = cards.photo_report(look_at_photos(photos, resolution=64))
    assert "3 images of 80 x 64 pixels; at 64 pixels 20% of the images is cut away." in card
    assert "All is well" in card
    photos.append(save(tmp_path / "<b>.png", 0, size=(80, 64)))
    (tmp_path / "<i>.jpg").write_text("not a picture")
    card = cards.photo_report(look_at_photos([*photos, tmp_path / "<i>.jpg"], resolution=64))
    assert "1 photo cannot be used" in card
    assert "`&lt;i&gt;.jpg` cannot be used: it is not in a picture format" in card
    assert "are the same image. Keep one of them." in card
    assert "--" not in card
    assert str(tmp_path) not in card


def test_the_example_subjects_are_complete() -> None:
    examples = read_examples(ROOT / "assets" / "subjects")
    assert len(examples) >= 6
    for example in examples.values():
        assert example.class_word
        assert len(open_photos(example.pictures)) >= 3


def test_cards_escape_what_others_wrote() -> None:
    started = {"method": "hra", "parameters": 1, "steps": 2, "instance_prompt": "<script>"}
    card = cards.run_card(
        Status("x", "failed", started, [], [], reason="<img onerror=1>", log="<b>log</b>")
    )
    assert "<script>" not in card
    assert "<img" not in card
    assert "<b>log" not in card
    assert "&lt;b&gt;log" in card


def test_durations() -> None:
    assert [cards.duration(s) for s in (41.6, 185, 7800)] == ["42 s", "3 min 05 s", "2 h 10 min"]


def test_the_loss_curve_is_short_however_long_the_run() -> None:
    assert loss_curve([(1, 0.5)], total=9) == ""
    curve = loss_curve([(step, 1 / step) for step in range(1, 10_001)], total=10_000)
    assert curve.count("L") < 800
    assert "nan" not in curve


def test_base_and_adapted_pictures_with_recipes(tiny: Path, tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "pictures")
    assert train(tiny, pictures, tmp_path / "run", learning_rate=0.1) == 0
    options = GenerateOptions(
        pretrained_model_name_or_path=str(tiny),
        adapter=[tmp_path / "run"],
        prompt=("a photo of sks dog", "a dog"),
        num_images=2,
        seed=5,
        num_inference_steps=2,
        output_dir=tmp_path / "out",
    )
    painter, heard = Painter(), []
    painted = painter.paint(
        options, compare=True, on_progress=lambda share, text: heard.append(share)
    )
    assert heard == sorted(heard)
    assert heard[-1] == 1
    assert painted.archive.is_file()
    assert len(painted.base) == len(painted.adapted) == 4
    for before, after in zip(painted.base, painted.adapted, strict=True):
        was, now = read_recipe(before), read_recipe(after)
        assert was
        assert now
        assert (was.prompt, was.seed) == (now.prompt, now.seed)
        assert (was.adapter, now.adapter) == ("", str(tmp_path / "run"))
        assert before.read_bytes() != after.read_bytes()
    again = painter.paint(options.model_copy(update={"output_dir": tmp_path / "b"}), compare=True)
    for first, second in zip(painted.base, again.base, strict=True):
        assert Image.open(first).tobytes() == Image.open(second).tobytes()


def test_too_many_pictures(tiny: Path, tmp_path: Path) -> None:
    options = GenerateOptions(
        pretrained_model_name_or_path=str(tiny), prompt=("a",) * 9, num_images=8
    )
    with pytest.raises(UserError, match="at most 32"):
        Painter().paint(options, compare=False)


def test_bases_are_checked_before_the_page_opens(tiny: Path, tmp_path: Path) -> None:
    check_bases([str(tiny), "stable-diffusion-v1-5/stable-diffusion-v1-5"])
    for name, told in ((tmp_path, "no model_index.json"), ("assets/nothing", "does not exist")):
        with pytest.raises(UserError, match=told):
            check_bases([str(name)])

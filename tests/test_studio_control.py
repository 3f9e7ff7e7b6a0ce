"""The Control tab without a browser: maps as they are shown and used, and what it refuses."""

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from orthodiff import control
from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.io.png_metadata import read_recipe
from orthodiff.models import load_base
from orthodiff.studio.services.control_request import steered_options
from orthodiff.studio.services.maps import (
    from_drawing,
    from_maps,
    from_pictures,
    with_thresholds,
)
from orthodiff.studio.state import Studio
from orthodiff.studio.tabs.control import NOBODY, Control
from orthodiff.studio.widgets.map_source import DRAWING, MAPS, PICTURES
from orthodiff.training.cli.main import main as training
from pocket.painted.pairs import write_pairs
from tests.photos import photo, save
from tests.runs import make_pictures, train

SIZE = (32, 32)
SQUARE = [[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75], [0.25, 0.25]]]
SAMPLING = {"prompt": ("a cat", "a dog"), "num_images": 2, "num_inference_steps": 2, "seed": 3}


def train_control(base: Path, output: Path) -> Path:
    """A finished training of two steps that follows edges."""
    pairs = output.parent.parent / "pairs"
    write_pairs("canny", 4, pairs, size=32)
    flags = {
        "pretrained_model_name_or_path": base, "train_data_dir": pairs, "output_dir": output,
        "cache_dir": pairs / "cache", "max_train_steps": 2, "train_batch_size": 2, "rank": 2,
        "learning_rate": 0.1, "hint_learning_rate": 0.1,
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert training(["control", *words]) == 0
    return output


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A studio with a control and a subject."""
    runs = tmp_path_factory.mktemp("studio") / "runs"
    runs.mkdir()
    train_control(tiny, runs / "edges")
    assert train(tiny, make_pictures(runs.parent / "photos"), runs / "vase") == 0
    return Studio.open(bases=(str(tiny),), runs=runs)


@pytest.fixture(scope="module")
def tab(studio: Studio) -> Control:
    """The tab, built within an event loop, as Gradio leaves one open that it makes itself."""

    async def build() -> Control:
        with gr.Blocks():
            return Control(studio)

    return asyncio.run(build())


def filled(tab: Control, **changes: Any) -> dict[Any, Any]:
    """What the page sends when nothing was touched but these fields."""
    fields = {
        "control": tab.control, "base": tab.base, "strength": tab.strength, "start": tab.start,
        "subject": tab.subject, "end": tab.end, "compare": tab.compare, "kind": tab.source.kind,
        "example": tab.source.example, "pictures": tab.source.pictures, "maps": tab.source.maps,
        "drawing": tab.source.drawing, "low": tab.source.low, "high": tab.source.high,
        "prompts": tab.sampling.prompts, "negative": tab.sampling.negative,
        "count": tab.sampling.count, "seed": tab.sampling.seed,
        "steps": tab.sampling.steps, "guidance": tab.sampling.guidance,
    }  # fmt: skip
    values = {name: field.value for name, field in fields.items()}
    values |= {"control": "edges", "subject": NOBODY, "steps": 2, "count": 1, **changes}
    return {field: values[name] for name, field in fields.items()}


def drawn_map(path: Path, size: tuple[int, int], *, line: str = "white", on: str = "black") -> Path:
    sheet = Image.new("RGB", size, on)
    ImageDraw.Draw(sheet).ellipse([4, 4, size[0] // 2, size[1] // 2], outline=line, width=2)
    sheet.save(path)
    return path


def test_a_map_is_computed_as_on_the_command_line(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", 1, size=(96, 48))
    (used,) = from_pictures([wide], control.Canny(), SIZE)
    expected, note = control.compute(Image.open(wide), SIZE, control.Canny())
    assert used.used.tobytes() == expected.tobytes()
    assert used.note == note
    assert "letterboxed" in used.note
    assert used.name == "wide.png"


def test_thresholds_decide_how_many_edges_there_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1, size=(64, 64))
    edges = [
        np.asarray(from_pictures([path], found, SIZE)[0].used).mean()
        for found in (
            with_thresholds(control.Canny(), low=20, high=40),
            control.Canny(),
            with_thresholds(control.Canny(), low=300, high=400),
        )
    ]
    assert edges[0] > edges[1] > edges[2] > 0
    assert with_thresholds(control.Scribble(), low=9, high=1) == control.Scribble()
    with pytest.raises(UserError, match="lower threshold is 9, above the upper one, 1"):
        with_thresholds(control.Canny(), low=9, high=1)


def test_a_ready_map_is_fitted_with_a_note(tmp_path: Path) -> None:
    (used,) = from_maps([drawn_map(tmp_path / "m.png", (96, 48))], control.Canny(), SIZE)
    assert used.used.size == SIZE
    assert "The map was 96x48: its map was letterboxed" in used.note


def test_what_is_no_map_is_refused_in_one_sentence(tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "blank.png")
    photo(3, SIZE).save(tmp_path / "colour.png")
    drawn_map(tmp_path / "inverted.png", SIZE, line="black", on="white")
    stripes = np.zeros((320, 320), np.uint8)
    stripes[::8] = 255
    Image.fromarray(stripes).save(tmp_path / "fine.png")
    (tmp_path / "letter.png").write_text("Dear all")
    for name, told in (
        ("blank", "`blank.png`: The canny map is blank"),
        ("colour", "`colour.png`: A canny map is grey, but"),
        ("inverted", "Invert it"),
        ("fine", "too fine for pictures of 32x32"),
        ("letter", "`letter.png` cannot be used: it is not in a picture format"),
    ):
        with pytest.raises(UserError, match=told) as error:
            from_maps([tmp_path / f"{name}.png"], control.Canny(), SIZE)
        assert str(tmp_path) not in str(error.value)
        assert "--" not in str(error.value)
    with pytest.raises(UserError, match="no map yet"):
        from_maps([], control.Canny(), SIZE)
    with pytest.raises(UserError, match="5 maps at once are too many"):
        from_maps([tmp_path / "blank.png"] * 5, control.Canny(), SIZE)


def test_a_drawing_becomes_lines() -> None:
    used = np.asarray(from_drawing(SQUARE, control.Canny(), SIZE).used)[..., 0] > 0
    assert used[8].sum() == used[:, 8].sum() == 16
    assert used.sum() == 4 * 15
    bold = np.asarray(from_drawing(SQUARE, control.Scribble(stroke=0.1), SIZE).used)[..., 0] > 0
    assert bold.sum() > 2 * used.sum()
    assert np.asarray(from_drawing([[[1, 1]]], control.Canny(), SIZE).used)[31, 31].all()


@pytest.mark.parametrize(
    ("strokes", "told"),
    [
        (None, "Nothing is drawn yet"),
        ([], "Nothing is drawn yet"),
        ([[]], "cannot be read"),
        ("circle", "cannot be read"),
        ([[["a", 1]]], "cannot be read"),
        ([[[0.5, 2]]], "cannot be read"),
        ([[[0.5, float("nan")]]], "cannot be read"),
        ([[[0.5, 0.5]] * 100_001], "cannot be read"),
        ([[[1]]], "cannot be read"),
    ],
)
def test_a_drawing_that_is_none(strokes: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        from_drawing(strokes, control.Canny(), SIZE)


def test_what_needs_more_than_lines_is_given_ready() -> None:
    with pytest.raises(UserError, match="segmentation map cannot be drawn here"):
        from_drawing(SQUARE, control.Segmentation(), SIZE)
    with pytest.raises(UserError, match="depth map cannot be computed in this page"):
        from_pictures([Path("x.png")], control.Depth(), SIZE)


def test_a_hint_encoder_alone_is_a_control_too(tiny: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = load_base(str(tiny))
    learned = control.attach(base.unet, control.Canny(), factor=base.factor, generator=generator)
    learned.save(tmp_path / "runs" / "hint", base=str(tiny))
    (tmp_path / "runs" / "hint" / "events.jsonl").touch()
    studio = Studio.open(bases=(str(tiny),), runs=tmp_path / "runs")
    assert "hint" in studio.controls()
    assert studio.store.finished() == []
    assert studio.base_of(control.read_metadata(studio.controls()["hint"])) == str(tiny)


def test_controls_and_subjects_are_offered_apart(studio: Studio) -> None:
    assert list(studio.controls()) == ["edges"]
    assert studio.store.finished() == ["vase"]


def test_the_page_paints_what_the_command_line_paints(
    studio: Studio, tiny: Path, tmp_path: Path
) -> None:
    maps = [
        from_drawing(SQUARE, control.Canny(), SIZE),
        *from_maps([drawn_map(tmp_path / "m.png", SIZE)], control.Canny(), SIZE),
    ]
    adapters = [studio.controls()["edges"], studio.store.folder("vase")]
    options = steered_options(
        maps, tmp_path / "out", base=str(tiny), adapters=adapters, strength=0.8, start=0, end=1,
        sampling=SAMPLING,
    )  # fmt: skip
    painted = studio.painter.paint(options, compare=True)
    assert len(painted.adapted) == len(painted.overlays) == 8
    assert len(painted.base) == 4
    assert [list(group) for group in painted.groups] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [painted.map_of(place) for place in (3, 4)] == list(options.condition)
    for shown, path in zip(maps, options.condition, strict=True):
        assert Image.open(path).tobytes() == shown.used.tobytes()
    recipe = read_recipe(painted.adapted[4])
    assert recipe
    assert (recipe.condition_type, recipe.control_strength) == ("canny", 0.8)

    words = [f"--{name}={value}" for name, value in SAMPLING.items() if name != "prompt"]
    words += ["--prompt", *SAMPLING["prompt"], "--adapter", *adapters]
    words += ["--condition", *options.condition, "--control_strength=0.8", "--width=32"]
    words += [f"--pretrained_model_name_or_path={tiny}", f"--output_dir={tmp_path / 'cli'}"]
    assert main(["generate", "--height=32", *map(str, words)]) == 0
    for place, path in enumerate(painted.adapted):
        assert (
            Image.open(path).tobytes()
            == Image.open(tmp_path / "cli" / f"{place:02d}.png").tobytes()
        )
    assert painted.adapted[0].read_bytes() != painted.adapted[4].read_bytes()


def test_what_was_shown_is_what_is_used(tab: Control, tmp_path: Path) -> None:
    assert 'class="used"' in tab.look(filled(tab))
    _, told, pictures, archive = tab.generate(filled(tab), lambda *_, **__: None)
    assert "1 pictures" in told
    assert "Overlay" in pictures
    assert archive.visible
    (used,) = tab.studio.store.root.glob("pictures/*/map-00.png")
    (shown,) = tab.source.used(filled(tab), control.Canny(), SIZE)
    assert Image.open(used).tobytes() == shown.used.tobytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"control": None}, "Choose an adapter"),
        ({"control": "/etc"}, "Choose an adapter"),
        ({"base": "/etc"}, "not offered here"),
        ({"subject": "../x"}, "cannot be the name of a run"),
        ({"kind": "other"}, "Choose an example"),
        ({"example": "../x"}, "Choose an example"),
        ({"kind": PICTURES}, "no picture yet"),
        ({"kind": MAPS}, "no map yet"),
        ({"kind": DRAWING}, "Nothing is drawn yet"),
        ({"low": None}, "Lower threshold is empty"),
        ({"low": 500}, "Move it below"),
        ({"prompts": " "}, "The prompt is empty"),
        ({"start": 0.5, "end": 0.5}, "Control lasts from 0.5 to 0.5"),
        ({"strength": -1}, "Control is -1"),
        ({"count": 9}, "Use at most 8"),
    ],
)
def test_a_bad_field_is_told_and_nothing_is_written(
    tab: Control, changes: dict[str, Any], told: str
) -> None:
    before = sorted(tab.studio.store.root.glob("pictures/*"))
    message, *_ = tab.generate(filled(tab, **changes), None)
    assert told in message
    assert "problem" in message
    assert sorted(tab.studio.store.root.glob("pictures/*")) == before


def test_nothing_is_left_of_pictures_that_failed(tab: Control, studio: Studio) -> None:
    before = sorted(studio.store.root.glob("pictures/*"))
    weights = studio.controls()["edges"] / "hint_encoder.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    message, *_ = tab.generate(filled(tab), lambda *_, **__: None)
    weights.write_bytes(whole)
    assert "is truncated or not safetensors" in message
    assert sorted(studio.store.root.glob("pictures/*")) == before


def test_an_adapter_brings_its_thresholds_and_its_base(tab: Control, tiny: Path) -> None:
    before = {"controls": None, "subjects": None, "control": None}
    now, adapter, subject, base, low, high, row, told = tab.refresh(None, NOBODY, before)
    assert now == {"controls": ["edges"], "subjects": ["vase"], "control": "edges"}
    assert (adapter.value, subject.value, base, told) == ("edges", NOBODY, str(tiny), "")
    assert (low.value, high.value, row.visible) == (100, 200, True)
    low, high, _ = tab.source.settings_of(control.Canny(low=400, high=1000))
    assert (low.maximum, high.maximum, high.value) == (1000, 1000, 1000)

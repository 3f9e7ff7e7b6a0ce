"""The Control tab without a browser: control images as shown and used, and what it refuses."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
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
from orthodiff.studio.services.control_images import (
    from_control_images,
    from_drawing,
    from_images,
    with_thresholds,
)
from orthodiff.studio.services.jobs.job import Job
from orthodiff.studio.services.jobs.store import Query
from orthodiff.studio.services.kinds.images import base_of
from orthodiff.studio.services.sampling.plan import Album
from orthodiff.studio.state import Studio
from orthodiff.studio.tabs.control import ControlTab
from orthodiff.studio.widgets.control_source import CONTROL_IMAGES, DRAWING, IMAGES
from orthodiff.training.cli.main import main as training
from pocket.painted.pairs import write_pairs
from tests.photos import photo, save
from tests.runs import make_images, train

SIZE = (32, 32)
SQUARE = [[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75], [0.25, 0.25]]]
OWNER = "local"
PATIENCE = 120.0


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
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with a control and a subject."""
    place = tmp_path_factory.mktemp("studio")
    (place / "runs").mkdir()
    train_control(tiny, place / "runs" / "edges")
    assert train(tiny, make_images(place / "photos"), place / "runs" / "vase") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        opened = Studio.open(bases=[str(tiny)], data=place / "data", runs=place / "runs")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def tab(studio: Studio) -> ControlTab:
    """The tab, built within an event loop, as Gradio leaves one open that it makes itself."""

    async def build() -> ControlTab:
        with gr.Blocks():
            return ControlTab(studio)

    return asyncio.run(build())


def chosen(*names: str) -> str:
    return json.dumps([{"id": name} for name in names])


def filled(tab: ControlTab, **changes: Any) -> dict[Any, Any]:
    """What the page sends when nothing was touched but these fields."""
    fields = {
        "control": tab.control, "subjects": tab.subjects, "kind": tab.source.kind,
        "example": tab.source.example, "pictures": tab.source.images,
        "maps": tab.source.control_images,
        "drawing": tab.source.drawing, "low": tab.source.low, "high": tab.source.high,
        **tab.form.fields,
    }  # fmt: skip
    values = {name: field.value for name, field in fields.items()}
    values |= {"control": chosen("edges"), "num_inference_steps": "2", "num_images": 1, **changes}
    return {field: values[name] for name, field in fields.items()}


def ask_of(owner: str = OWNER) -> Any:
    return SimpleNamespace(username=owner)


def follow(studio: Studio, job_id: str) -> Job:
    """A job once it has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        job = studio.jobs.get(OWNER, job_id)
        if not job.is_active:
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def newest(studio: Studio) -> Job:
    return studio.jobs.store.list(Query(owner=OWNER, kinds=("generate",)), limit=1)[0]


def drawn_control_image(
    path: Path, size: tuple[int, int], *, line: str = "white", on: str = "black"
) -> Path:
    sheet = Image.new("RGB", size, on)
    ImageDraw.Draw(sheet).ellipse([4, 4, size[0] // 2, size[1] // 2], outline=line, width=2)
    sheet.save(path)
    return path


def test_a_map_is_computed_as_on_the_command_line(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", 1, size=(96, 48))
    (used,) = from_images([wide], control.Canny(), SIZE)
    expected, note = control.compute(Image.open(wide), SIZE, control.Canny())
    assert used.used.tobytes() == expected.tobytes()
    assert used.note == note
    assert "letterboxed" in used.note
    assert used.name == "wide.png"


def test_thresholds_decide_how_many_edges_there_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1, size=(64, 64))
    edges = [
        np.asarray(from_images([path], found, SIZE)[0].used).mean()
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
    (used,) = from_control_images(
        [drawn_control_image(tmp_path / "m.png", (96, 48))], control.Canny(), SIZE
    )
    assert used.used.size == SIZE
    assert "The control image was 96x48: its control image was letterboxed" in used.note


def test_what_is_no_map_is_refused_in_one_sentence(tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "blank.png")
    photo(3, SIZE).save(tmp_path / "colour.png")
    drawn_control_image(tmp_path / "inverted.png", SIZE, line="black", on="white")
    stripes = np.zeros((320, 320), np.uint8)
    stripes[::8] = 255
    Image.fromarray(stripes).save(tmp_path / "fine.png")
    (tmp_path / "letter.png").write_text("Dear all")
    for name, told in (
        ("blank", "`blank.png`: The canny control image is blank"),
        ("colour", "`colour.png`: A canny control image is grey, but"),
        ("inverted", "Invert it"),
        ("fine", "too fine for images of 32x32"),
        ("letter", "`letter.png` cannot be used: it is not in an image format"),
    ):
        with pytest.raises(UserError, match=told) as error:
            from_control_images([tmp_path / f"{name}.png"], control.Canny(), SIZE)
        assert str(tmp_path) not in str(error.value)
        assert "--" not in str(error.value)
    with pytest.raises(UserError, match="no control image yet"):
        from_control_images([], control.Canny(), SIZE)
    with pytest.raises(UserError, match="5 control images at once are too many"):
        from_control_images([tmp_path / "blank.png"] * 5, control.Canny(), SIZE)


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
    with pytest.raises(UserError, match="segmentation control image cannot be drawn here"):
        from_drawing(SQUARE, control.Segmentation(), SIZE)
    with pytest.raises(UserError, match="depth control image cannot be computed in this page"):
        from_images([Path("x.png")], control.Depth(), SIZE)


def test_a_hint_encoder_alone_is_a_control_too(tiny: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = load_base(str(tiny))
    learned = control.attach(
        base.denoiser, control.Canny(), factor=base.factor, generator=generator
    )
    folder = tmp_path / "runs" / "hint"
    learned.save(folder, base=str(tiny))
    events = [
        {"event": "Started", "time": 1.0, "pid": 0, "steps": 1},
        {"event": "Finished", "time": 2.0, "step": 1, "seconds": 1.0},
    ]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in events))
    studio = Studio.open(bases=[str(tiny)], data=tmp_path / "data", runs=tmp_path / "runs")
    try:
        (entry,) = studio.adapters.list(OWNER)
        assert entry.is_control
        assert base_of(studio.bases, entry.recipe["base"]) == str(tiny)
    finally:
        studio.close()


def test_controls_and_subjects_are_offered_apart(studio: Studio) -> None:
    assert [entry.name for entry in studio.adapters.list(OWNER, control=True)] == ["edges"]
    assert [entry.name for entry in studio.adapters.list(OWNER, control=False)] == ["vase"]


def test_the_page_makes_what_the_command_line_makes(
    studio: Studio, tiny: Path, tmp_path: Path
) -> None:
    paths = [drawn_control_image(tmp_path / f"{n}.png", (32, 32 + 8 * n)) for n in range(2)]
    used = [one.used for one in from_control_images(paths, control.Canny(), SIZE)]
    control_images = [tmp_path / f"map-{n}.png" for n in range(2)]
    for image, path in zip(used, control_images, strict=True):
        image.save(path)
    values = {
        "adapters": [{"id": "edges", "checkpoint": "last"}, {"id": "vase", "checkpoint": "last"}],
        "prompts": ["a cat", "a dog"], "num_images": 2, "num_inference_steps": 2, "seed": 3,
        "control_strength": 0.8, "width": 32, "height": 32, "compare": True,
    }  # fmt: skip
    job = follow(studio, studio.generate(OWNER, values, control_images=control_images).id)
    assert job.status == "succeeded", job.error
    images = Album.load(job.folder).images
    assert [image.label for image in images] == ["Base"] * 8 + ["With control"] * 8
    recipe = read_recipe(job.folder / images[-1].file)
    assert recipe
    assert (recipe.condition_type, recipe.control_strength) == ("canny", 0.8)
    assert (recipe.adapter, recipe.base) == ("edges + vase", tiny.name)

    folders = [studio.adapters.get(OWNER, name).folder for name in ("edges", "vase")]
    words = ["--prompt", "a cat", "a dog", "--adapter", *folders, "--condition", *control_images]
    words += ["--num_images=2", "--num_inference_steps=2", "--seed=3", "--control_strength=0.8"]
    words += [f"--pretrained_model_name_or_path={tiny}", f"--output_dir={tmp_path / 'cli'}"]
    assert main(["generate", "--width=32", "--height=32", *map(str, words)]) == 0
    ours = [Image.open(job.folder / image.file).tobytes() for image in images[8:]]
    theirs = [_pixels(path) for path in sorted((tmp_path / "cli").rglob("*.png"))]
    assert set(ours) <= set(theirs)
    assert len(set(ours)) == 8


def _pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_what_was_shown_is_what_is_used(tab: ControlTab, studio: Studio) -> None:
    assert 'class="used"' in tab.look(filled(tab), ask_of())
    assert tab.start(filled(tab), ask_of()) == ""
    job = follow(studio, newest(studio).id)
    assert job.status == "succeeded", job.error
    (shown,) = tab.source.used(filled(tab), control.Canny(), SIZE, studio.subjects, OWNER)
    assert _pixels(job.folder / "map-00.png") == shown.used.tobytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"control": "[]"}, "no adapter that follows"),
        ({"control": "{"}, "no adapter that follows"),
        ({"control": chosen("/etc")}, "no such adapter"),
        ({"control": chosen("vase")}, "follows no control images"),
        ({"subjects": chosen("../x")}, "no such adapter"),
        ({"kind": "other"}, "Choose an example"),
        ({"example": "../x"}, "Choose an example"),
        ({"kind": IMAGES}, "no image yet"),
        ({"kind": IMAGES, "pictures": "../../etc"}, "not here any more"),
        ({"kind": CONTROL_IMAGES}, "no control image yet"),
        ({"kind": DRAWING}, "Nothing is drawn yet"),
        ({"low": None}, "Lower threshold is empty"),
        ({"low": 500}, "Move it below"),
        ({"prompts": " "}, "missing"),
        ({"control_start": 0.5, "control_end": 0.5}, "Control lasts from 0.5 to 0.5"),
        ({"control_strength": -1}, "Control is -1"),
        ({"num_images": 65}, "Images each is 65"),
    ],
)
def test_a_bad_field_is_told_and_nothing_is_written(
    tab: ControlTab, studio: Studio, changes: dict[str, Any], told: str
) -> None:
    before = studio.jobs.store.count(Query())
    message = tab.start(filled(tab, **changes), ask_of())
    assert told in message
    assert "problem" in message
    assert studio.jobs.store.count(Query()) == before
    assert list(studio.scratch.iterdir()) == []


def test_images_that_fail_say_why(tab: ControlTab, studio: Studio) -> None:
    weights = studio.adapters.get(OWNER, "edges").weights() / "hint_encoder.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    tab.start(filled(tab), ask_of())
    job = follow(studio, newest(studio).id)
    weights.write_bytes(whole)
    assert job.status == "failed"
    assert "is truncated" in job.error
    assert str(studio.jobs.runs.root) not in job.error


def test_images_are_cancelled_between_two_steps(tab: ControlTab, studio: Studio) -> None:
    tab.start(filled(tab, num_inference_steps="200", num_images=8), ask_of())
    job = newest(studio)
    studio.jobs.cancel(OWNER, job.id)
    assert follow(studio, job.id).status == "cancelled"


def test_an_adapter_brings_its_thresholds(tab: ControlTab) -> None:
    low, high, row = tab._thresholds(chosen("edges"), ask_of())
    assert (low.value, high.value, row.visible) == (100, 200, True)
    low, high, _ = tab.source.settings_of(control.Canny(low=400, high=1000))
    assert (low.maximum, high.maximum, high.value) == (1000, 1000, 1000)

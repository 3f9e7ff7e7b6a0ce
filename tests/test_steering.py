"""Images from control images: on the command line, in time, and together with another adapter."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff import control
from orthodiff.cli.main import main
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.compose import load_all
from orthodiff.control import Steering
from orthodiff.errors import UserError
from orthodiff.evaluation.metrics import METRICS
from orthodiff.io.images import open_control_image
from orthodiff.io.png_metadata import read_recipe
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.studio.services.control_images import from_control_images
from tests.test_conditions import good, photo

SIDE = 32  # of the tiny base's images


def stir(parameters, *, by, seed):
    """Leave the start, where an adapter changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module")
def base(tiny):
    return load_base(str(tiny))


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """A control and a subject, as trained ones lie on disk."""
    root = tmp_path_factory.mktemp("adapters")
    for name, seed in (("control", 1), ("subject", 2)):
        adapter = orthodiff.attach(base.unet, orthodiff.HRA(rank=2))
        stir(adapter.parameters(), by=0.5, seed=seed)
        parts = {"unet": adapter}
        if name == "control":
            hints = control.attach(base.unet, control.Canny(), factor=base.factor)
            stir(hints.parameters(), by=0.2, seed=seed)
            parts["hint_encoder"] = hints
        adapter_set = AdapterSet(base, parts)
        adapter_set.save(root / name, base="tiny")
        adapter_set.detach()
    return root


@pytest.fixture
def control_images(tmp_path):
    for name, image in (("edges", good("canny")), ("photo", photo()), ("wide", photo())):
        size = (SIDE, SIDE) if name == "edges" else (96, 48) if name == "wide" else (64, 64)
        control.fit(image, size, control.Canny())[0].save(tmp_path / f"{name}.png")
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[::8] = 255
    Image.fromarray(stripes).save(tmp_path / "fine.png")
    return tmp_path


@pytest.fixture
def call(tiny, folders, tmp_path, capsys):
    def run(*words):
        code = main(
            ["generate", "--pretrained_model_name_or_path", str(tiny), "--prompt", "a dog",
             "--output_dir", str(tmp_path / "out"), *map(str, words)]
        )  # fmt: skip
        return code, capsys.readouterr().err

    return run


def test_maps_times_prompts_times_seeds(call, folders, control_images, tmp_path):
    code, told = call(
        "--adapter", folders / "control", "--prompt", "a cat", "--num_images", 2,
        "--condition", control_images / "edges.png",
        "--condition-from", control_images / "photo.png",
        "--condition-type", "canny", "--control-strength=0.8", "--control_end", 0.5,
    )  # fmt: skip
    assert (code, told) == (0, "")
    out = tmp_path / "out"
    names = [f"{number:02d}{kind}.png" for number in range(8) for kind in ("", "_map", "_overlay")]
    assert {path.name for path in out.iterdir()} == {
        *names, "contact_sheet.png", "index.html", "manifest.jsonl"
    }  # fmt: skip
    told = [read_recipe(out / f"{number:02d}.png") for number in range(8)]
    assert [recipe.prompt for recipe in told] == ["a dog", "a dog", "a cat", "a cat"] * 2
    assert [recipe.seed for recipe in told] == [0, 1] * 4
    assert [recipe.condition for recipe in told] == [*["edges.png"] * 4, *[""] * 4]
    assert [recipe.condition_from for recipe in told] == [*[""] * 4, *["photo.png"] * 4]
    assert (told[0].condition_type, told[0].control_strength) == ("canny", 0.8)
    with Image.open(out / "00_map.png") as used, Image.open(control_images / "edges.png") as given:
        assert np.array_equal(np.asarray(used), np.asarray(given))
    expected = control.Canny().compute(photo().resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    with Image.open(out / "04_map.png") as used:
        assert np.array_equal(np.asarray(used), np.asarray(expected))


def test_what_is_done_to_a_map_is_said(call, folders, control_images):
    good("canny").save(control_images / "large.png")
    code, told = call(
        "--adapter", folders / "control",
        "--condition", control_images / "large.png",
        "--condition_from", control_images / "wide.png",
    )  # fmt: skip
    assert code == 0
    assert "note: " in told
    assert "large.png: The control image was 64x64 and was resized to 32x32." in told
    assert (
        "wide.png: The image was 96x48: its control image was letterboxed, 32x16 on black" in told
    )


def test_thresholds_of_a_computed_map_can_be_set(call, folders, control_images, tmp_path):
    words = ["--condition_from", control_images / "photo.png", "--condition_setting", "low=10"]
    code, told = call("--adapter", folders / "control", *words, "--condition_setting", "high=20")
    assert (code, told) == (0, "")
    small = photo().resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    with Image.open(tmp_path / "out" / "00_map.png") as used:
        assert np.array_equal(np.asarray(used), np.asarray(control.Canny(10, 20).compute(small)))
    recipe = read_recipe(tmp_path / "out" / "00.png")
    assert recipe.condition_setting == "low=10 high=20"


def test_a_ready_map_with_transparency_lies_on_black(call, folders, tmp_path):
    lines = control.fit(good("canny"), (SIDE, SIDE), control.Canny())[0]
    clear = Image.new("RGB", lines.size, (255, 255, 255))
    clear.putalpha(lines.convert("L"))
    clear.save(tmp_path / "clear.png")
    assert open_control_image(tmp_path / "clear.png").tobytes() == lines.tobytes()
    code, told = call("--adapter", folders / "control", "--condition", tmp_path / "clear.png")
    assert (code, told) == (0, "")
    with Image.open(tmp_path / "out" / "00_map.png") as used:
        assert np.array_equal(np.asarray(used), np.asarray(lines))
    (shown,) = from_control_images([tmp_path / "clear.png"], control.Canny(), (SIDE, SIDE))
    assert shown.used.tobytes() == shown.given.tobytes() == lines.tobytes()


def test_without_a_map_nothing_steers_and_that_is_said(call, folders):
    code, told = call("--adapter", folders / "control")
    assert code == 0
    assert "Without a control image (canny), nothing steers" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--condition", "photo.png"], "is coloured"),
        (["--condition", "blank.png"], "blank.png: The canny control image is blank"),
        (["--condition_from", "blank.png"], "blank.png: The canny control image is blank"),
        (["--condition", "missing.png"], "missing.png"),
        (["--condition", "edges.png", "--condition_type", "depth"], "by canny images"),
        (["--condition", "edges.png", "--control_start", "1"], "start < end"),
        (
            [
                "--condition",
                "edges.png",
                "--control_start",
                "0.3",
                "--control_end",
                "0.4",
                "--num_inference_steps",
                "4",
            ],
            "no whole step of 4",
        ),
        (["--control_strength", "0.5"], "`control_strength` is given, but no control image"),
        (["--condition_type", "canny"], "`condition_type` is given, but no control image"),
        (["--condition", "fine.png"], "its lines run together"),
        (["--condition_from", "photo.png", "--condition_model", "x"], "without a model"),
        (["--condition_from", "photo.png", "--condition_setting", "low"], "NAME=VALUE is due"),
        (["--condition_from", "photo.png", "--condition_setting", "low=["], "NAME=VALUE is due"),
        (["--condition_from", "photo.png", "--condition_setting", "lo=5"], "no setting of canny"),
        (["--condition_from", "photo.png", "--condition_setting", "low=900"], "low <= high"),
        (["--condition_from", "photo.png", "--condition_setting", "low=x"], "whole number"),
        (["--condition", "edges.png", "--condition_setting", "low=5"], "none is"),
    ],
)
def test_bad_requests_write_nothing(call, folders, control_images, words, said):
    Image.new("RGB", (SIDE, SIDE)).save(control_images / "blank.png")
    words = [str(control_images / word) if word.endswith(".png") else word for word in words]
    code, told = call("--adapter", folders / "control", *words)
    assert code == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told
    assert not (control_images / "out").exists()


@pytest.mark.parametrize("words", [["--strength", 0.5], ["--merge"]])
def test_a_hint_encoder_alone_has_no_weights_to_change(base, call, tmp_path, words):
    hints = control.attach(base.unet, control.Canny(), factor=base.factor)
    AdapterSet(base, {"hint_encoder": hints}).save(tmp_path / "alone", base="tiny")
    hints.detach()
    code, told = call("--adapter", tmp_path / "alone", *words)
    assert code == 2
    assert "holds none, only hint_encoder" in told


def test_a_map_needs_an_adapter_that_is_steered(call, folders, control_images):
    for words in ((), ("--adapter", folders / "subject")):
        code, told = call("--condition", control_images / "edges.png", *words)
        assert code == 2
        assert "no adapter that is steered by them" in told


def test_two_controls_are_refused(call, folders, control_images):
    code, told = call("--adapter", folders / "control", "--adapter", folders / "control")
    assert code == 2
    assert "only one such adapter" in told


def test_one_file_may_be_a_map_and_an_image(call, folders, control_images, tmp_path):
    edges = control_images / "edges.png"
    code, _ = call(
        "--adapter", folders / "control", "--condition", edges, "--condition_from", edges
    )  # fmt: skip
    told = [read_recipe(tmp_path / "out" / f"0{number}.png") for number in range(2)]
    assert code == 0
    assert [recipe.condition for recipe in told] == [edges.name, ""]
    assert [recipe.condition_from for recipe in told] == ["", edges.name]


def test_inspect_shows_the_control(folders, capsys):
    assert main(["inspect", "--adapter", str(folders / "control")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hint_encoder"]["condition_type"] == "canny"
    assert found["hint_encoder"]["settings"] == {"low": 100, "high": 200}
    assert found["config"]["peft_type"]


@pytest.fixture
def steered(base, folders):
    adapter_set = AdapterSet.load(base, folders / "control")
    yield adapter_set.control
    adapter_set.detach()


REQUEST = GenerateRequest(prompts=("a dog",) * 3, seeds=(0, 0, 0), num_inference_steps=4)
EDGES = control.fit(good("canny"), (SIDE, SIDE), control.Canny())[0]


def levels(base, steering, request=REQUEST):
    return np.stack([np.asarray(p) for p in generate(base, request, steering=steering)]).astype(int)


def test_each_image_follows_its_own_map(base, steered):
    turned = EDGES.transpose(Image.Transpose.ROTATE_90)
    first, second, third = levels(base, Steering(steered, [EDGES, turned, EDGES]))
    assert np.abs(first - third).max() <= 1
    assert np.abs(first - second).max() > 3


def test_maps_count_in_their_share_of_the_steps(base, steered, monkeypatch):
    counted = []
    guided = steered.guided
    monkeypatch.setattr(
        steered, "guided", lambda hints, strength: (counted.append(strength), guided(hints))[1]
    )
    for start, end, steps in ((0, 1, 4), (0, 0.5, 2), (0.25, 1, 3), (0.4, 0.6, 0)):
        counted.clear()
        levels(base, Steering(steered, [EDGES] * 3, strength=0.7, start=start, end=end))
        assert counted == [0.7] * steps


def test_strength_zero_is_no_map(base, steered):
    plain = levels(base, None)
    assert np.array_equal(levels(base, Steering(steered, [EDGES] * 3, strength=0)), plain)
    assert np.abs(levels(base, Steering(steered, [EDGES] * 3)) - plain).max() > 3


def test_images_do_not_depend_on_their_batch(base, steered):
    from dataclasses import replace

    control_images = [EDGES, EDGES.transpose(Image.Transpose.ROTATE_90), EDGES]
    together = levels(base, Steering(steered, control_images))
    alone = levels(base, Steering(steered, control_images), replace(REQUEST, batch_size=1))
    assert np.abs(together - alone).max() <= 1


def test_a_control_and_a_subject_are_composed_in_order(base, folders):
    adapter_set = load_all(base, [folders / "control", folders / "subject"])
    name, layer = next(iter(adapter_set.unet.layers.items()))
    adapter_set.merge()
    both = layer.base_layer.weight.clone()
    adapter_set.detach()
    one = orthodiff.load(base.unet, folders / "control")
    one.merge()
    one.detach(merged=True)  # for good: the second turns what the first has turned
    two = orthodiff.load(base.unet, folders / "subject")
    two.merge()
    assert torch.allclose(both, two.layers[name].base_layer.weight, atol=1e-5)
    two.detach()


def test_after_stacking_the_base_is_as_it_was(tiny, folders):
    base = load_base(str(tiny))
    before = levels(base, None)
    adapter_set = load_all(base, [folders / "subject", folders / "control"], strength=0.5)
    assert adapter_set.control is not None
    assert np.abs(levels(base, Steering(adapter_set.control, [EDGES] * 3)) - before).max() > 3
    adapter_set.detach()
    assert np.array_equal(levels(base, None), before)
    assert not base.unet.conv_in._forward_hooks


def test_a_refused_text_encoder_takes_back_the_composed_unet(tiny, tmp_path):
    base = load_base(str(tiny))
    for name, method in (("one", orthodiff.HRA(rank=2)), ("two", orthodiff.LoRA(rank=2))):
        parts = {
            "unet": orthodiff.attach(base.unet, orthodiff.HRA(rank=2)),
            "text_encoder": orthodiff.attach(
                base.text_encoder, method, targets=orthodiff.TEXT_ATTENTION
            ),
        }
        adapter_set = AdapterSet(base, parts)
        adapter_set.save(tmp_path / name, base="tiny")
        adapter_set.detach()
    with pytest.raises(UserError):
        load_all(base, [tmp_path / "one", tmp_path / "two"])
    orthodiff.attach(base.unet, orthodiff.HRA(rank=2)).detach()


def test_what_cannot_be_composed_leaves_the_base_as_it_was(tiny, folders, tmp_path):
    base = load_base(str(tiny))
    lora = orthodiff.attach(base.unet, orthodiff.LoRA(rank=2))
    lora.save(tmp_path / "lora")
    lora.detach()
    before = levels(base, None)
    with pytest.raises(UserError):
        load_all(base, [folders / "control", tmp_path / "lora"])
    assert np.array_equal(levels(base, None), before)
    assert not base.unet.conv_in._forward_hooks


def evaluate(tiny, folder, out, *words):
    given = ["--pretrained_model_name_or_path", tiny, "--adapter", folder, "--output_dir", out]
    return main(["evaluate-control", *map(str, [*given, *words])])


def test_evaluate_control_sets_maps_beside_images(tiny, folders, control_images, tmp_path, capsys):
    words = ["--prompt", "a dog", "--prompt", "a cat", "--condition", control_images / "edges.png",
             "--condition_from", control_images / "photo.png"]  # fmt: skip
    assert evaluate(tiny, folders / "control", tmp_path / "out", *words) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["condition_type"], report["settings"]) == ("canny", {"low": 100, "high": 200})
    assert report["following"]["f1"]["count"] == 2 * 2
    assert report["following"].keys() == report["following_without_map"].keys() == {"iou", "f1"}
    assert set(report["prompt_similarity"]) == {"with_map", "without_map", "base"}
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.width > 5 * 144  # the control image, and image and overlay for both prompts
        assert grid.height > 3 * 144
    told = capsys.readouterr()
    assert "grid.png" in told.out
    assert told.err == ""


def test_evaluate_control_measures_images_as_the_maps_were_computed(
    tiny, folders, control_images, tmp_path
):
    words = ["--prompt", "a dog", "--condition_from", control_images / "photo.png"]
    default, keen = tmp_path / "usual", tmp_path / "keen"
    assert evaluate(tiny, folders / "control", default, *words) == 0
    thresholds = ["--condition_setting", "low=5", "--condition_setting", "high=10"]
    assert evaluate(tiny, folders / "control", keen, *words, *thresholds) == 0
    told = [json.loads((folder / "report.json").read_text()) for folder in (default, keen)]
    assert told[1]["settings"] == {"low": 5, "high": 10}
    assert told[0]["following"]["f1"]["value"] < told[1]["following"]["f1"]["value"]


def test_evaluate_control_leaves_out_what_no_map_covers(tiny, folders, tmp_path, monkeypatch):
    from orthodiff.evaluation import control as evaluate_control

    seen = []

    def noting(found, wanted):
        seen.append([each.shape for each in (*found, *wanted)])
        return METRICS["canny"](found, wanted)

    monkeypatch.setattr(evaluate_control, "METRICS", {"canny": noting})
    edges = np.zeros((20, 40), np.uint8)
    edges[10] = 255
    Image.fromarray(edges).save(tmp_path / "wide.png")
    words = ["--prompt", "a dog", "--condition", tmp_path / "wide.png", "--scorer", "none"]
    assert evaluate(tiny, folders / "control", tmp_path / "out", *words) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["scorer"] is None
    side = load_base(str(tiny)).recommended.resolution
    assert seen == [[(side // 2, side)] * 2] * 2


@pytest.mark.parametrize(
    ("adapter", "words", "said"),
    [
        ("control", [], "There is no control image"),
        (
            "control",
            [
                "--condition",
                "edges.png",
                "--condition_from",
                "photo.png",
                "--condition_setting",
                "low=5",
            ],
            "ready control images were made with other settings",
        ),
        ("subject", ["--condition", "edges.png"], "no adapter that is steered by them"),
        ("control", ["--condition", "photo.png"], "is coloured"),
    ],
)
def test_evaluate_control_refuses(
    tiny, folders, control_images, tmp_path, capsys, adapter, words, said
):
    words = [str(control_images / word) if word.endswith(".png") else word for word in words]
    out = tmp_path / "out"
    assert evaluate(tiny, folders / adapter, out, "--prompt", "a dog", *words) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()

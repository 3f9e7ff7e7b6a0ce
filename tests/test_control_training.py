"""The control task: control images from lists or made on the fly, and what it leaves behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from orthodiff.adapters.targets import ATTENTION, ATTENTION_AND_GEGLU
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import components_in, describe
from orthodiff.control import condition_of
from orthodiff.errors import UserError
from orthodiff.models import load_base
from orthodiff.training.cli.main import main
from orthodiff.training.events.history import read_history
from orthodiff.training.events.log import read_events
from orthodiff.training.options.config import parse_config
from orthodiff.training.tasks.control import ControlConfig
from pocket.painted.pairs import write_pairs
from tests.runs import ROOT


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "canny"
    write_pairs("canny", 6, folder, size=32)
    return folder


def run(base: Path, data: Path, out: Path, **flags: object) -> int:
    default = {
        "pretrained_model_name_or_path": base,
        "train_data_dir": data,
        "output_dir": out,
        "cache_dir": out.parent / "cache",
        "max_train_steps": 4,
        "train_batch_size": 2,
        "rank": 4,
    }
    words = ["control"]
    for name, value in {**default, **flags}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return main(words)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = ("adapter_model.safetensors", "hint_encoder.safetensors")
    return {
        f"{file}.{name}": tensor
        for file in files
        if (folder / file).exists()
        for name, tensor in load_file(folder / file).items()
    }


def test_a_run_learns_both_parts_and_opens_bit_for_bit(
    tiny: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = {"validation_prompt": "a cat", "validation_image": pairs / "maps" / "00000.png"}
    assert run(tiny, pairs, out, **flags) == 0
    assert json.loads((out / "control.json").read_text())["condition_type"] == "canny"
    assert (out / "samples" / "step-000004" / "00.png").is_file()
    saved = tensors(out)
    assert saved["hint_encoder.safetensors.conv_out.weight"].any()
    adapter_set = AdapterSet.load(load_base(str(tiny)), out)
    assert adapter_set.control is not None
    for name, own in adapter_set.control.state_dict().items():
        assert torch.equal(own, saved[f"hint_encoder.safetensors.{name}"])
    assert any("ff.net.0.proj" in name for name in saved)


def test_a_cut_run_goes_on_to_the_same_bits(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    assert run(tiny, pairs, tmp_path / "whole") == 0
    assert run(tiny, pairs, tmp_path / "part", max_train_steps=2) == 0
    assert run(tiny, pairs, tmp_path / "part", resume_from_checkpoint="latest") == 0
    whole, part = tensors(tmp_path / "whole"), tensors(tmp_path / "part")
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_the_hint_encoder_alone_and_its_own_rate(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(tiny, pairs, out, method="none", rank=None, hint_learning_rate=1e-4) == 0
    assert not (out / "adapter_model.safetensors").exists()
    steps = [event for event in read_events(out / "events.jsonl") if event["event"] == "Step"]
    assert {event["learning_rate"] for event in steps} == {1e-4}


def test_maps_made_on_the_fly_are_those_that_were_given(
    tiny: Path, pairs: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    (plain / "images").mkdir(parents=True)
    for path in (pairs / "images").iterdir():
        (plain / "images" / path.name).write_bytes(path.read_bytes())
    rows = [json.loads(line) for line in (pairs / "metadata.jsonl").read_text().splitlines()]
    kept = [{"file_name": row["file_name"], "text": row["text"]} for row in rows]
    (plain / "metadata.jsonl").write_text("\n".join(map(json.dumps, kept)))
    assert run(tiny, pairs, tmp_path / "given") == 0
    assert run(tiny, plain, tmp_path / "made", condition_type="canny") == 0
    given, made = tensors(tmp_path / "given"), tensors(tmp_path / "made")
    assert all(torch.equal(given[name], made[name]) for name in given)


def test_what_is_odd_about_maps_is_noted(
    tiny: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, wide = tmp_path / "odd", tmp_path / "wide.png"
    shutil.copytree(pairs, odd)
    rows = [json.loads(line) for line in (odd / "metadata.jsonl").read_text().splitlines()]
    (column,) = {name for name in rows[0] if name.startswith("conditioning_image")}
    del rows[0][column]
    (odd / "metadata.jsonl").write_text("".join(f"{json.dumps(r | {'text': ''})}\n" for r in rows))
    Image.new("RGB", (32, 32)).save(odd / rows[1][column])
    with Image.open(odd / rows[2][column]) as given:
        given.resize((64, 64)).save(odd / rows[2][column])
        given.resize((64, 32)).save(wide)
    assert run(tiny, odd, tmp_path / "run", validation_prompt="a", validation_image=wide) == 0
    told = capsys.readouterr().err
    assert "note: 1 of 6 images bring no control image: canny control images are comp" in told
    assert "note: 1 of 5 control images are black: they say nothing." in told
    assert "note: 1 of 5 control images are of another size than their image, and are" in told
    assert "note: No image has a caption, so prompts are empty." in told
    assert f"note: `{wide}`: The control image was 64x32: its control image was letterboxed" in told
    assert run(tiny, pairs, tmp_path / "run2") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert not [note for note in notes if "map" in note]


def test_a_white_map_is_no_empty_map(
    tiny: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pairs, tmp_path / "white")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "white" / "maps" / "00001.png")
    assert run(tiny, tmp_path / "white", tmp_path / "run") == 2
    assert "The control image of `images/00001.png` cannot be used: " in capsys.readouterr().err


def test_held_out_pairs_are_measured(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out"
    write_pairs("canny", 2, held_out, size=32, seed=1)
    assert run(tiny, pairs, tmp_path / "run", validation_data_dir=held_out) == 0
    history = read_history(tmp_path / "run")
    assert {score["loss_of"] for score in history.scores} == {"held-out pictures"}
    assert history.end
    assert "held-out pictures" in history.end["best_reason"]


def test_images_need_not_look_like_those_learned_from(
    tiny: Path, pairs: Path, tmp_path: Path
) -> None:
    shown = {"validation_prompt": "a dog", "validation_image": pairs / "maps" / "00000.png"}
    scorer = ROOT / "assets" / "pocket" / "scorer"
    assert run(tiny, pairs, tmp_path / "run", scorer=scorer, **shown) == 0
    history = read_history(tmp_path / "run")
    assert {score["subject_similarity"] for score in history.scores} == {None}
    assert all(-1 <= score["prompt_similarity"] <= 1 for score in history.scores)
    assert history.end
    assert "lowest loss" in history.end["best_reason"]


def test_held_out_maps_are_of_the_kind_that_is_learned(
    tiny: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "held-out"
    write_pairs("segmentation", 2, held_out, size=32, seed=1)
    assert run(tiny, pairs, tmp_path / "run", validation_data_dir=held_out) == 2
    assert "the control images of" in capsys.readouterr().err
    write_pairs("segmentation", 4, tmp_path / "pairs", size=32)
    (held_out / "condition.json").unlink()  # they say nothing of themselves
    assert run(tiny, tmp_path / "pairs", tmp_path / "run", validation_data_dir=held_out) == 0


def test_replacing_a_run_leaves_none_of_its_parts(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(tiny, pairs, out) == 0
    assert components_in(out) == ["unet", "hint_encoder"]
    flags = {"method": "none", "rank": None, "overwrite_output_dir": "true"}
    assert run(tiny, pairs, out, **flags) == 0
    assert components_in(out) == ["hint_encoder"]
    assert describe(out)["hint_encoder"]["recipe"]["condition_type"] == "canny"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"condition_type": "segmentation"}, "are canny"),
        (
            {"proportion_empty_prompts": 0.1, "caption_dropout_rate": 0.5},
            "Leave one of them out",
        ),
        ({"condition_type": "edges"}, "Use --condition_type canny"),
        ({"condition_setting": "low"}, "NAME=VALUE"),
        ({"condition_setting": "hig=3"}, "no setting of canny"),
        ({"condition_setting": "low=abc"}, "`low` is 'abc', but it must be a whole number"),
        ({"condition_setting": "low=true"}, "`low` is True, but it must be a whole number"),
        ({"condition_setting": "low=1999-13-45"}, "NAME=VALUE"),
        ({"condition_setting": "low=20"}, "Canny(low=20, high=200), but the control images of"),
        ({"validation_prompt": "a cat", "validation_image": "nowhere.png"}, "it is not there"),
        ({"conditioning_image_column": "hint"}, "no column `hint`"),
        ({"validation_prompt": "a cat"}, "`validation_image`"),
        ({"method": "none"}, "`rank` is given"),
        ({"train_data_dir": None}, "--train_data_dir"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tiny: Path,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: dict[str, object],
    sentence: str,
) -> None:
    assert run(tiny, pairs, tmp_path / "run", **flags) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert sentence in told[-1]
    assert not (tmp_path / "run").exists()


def test_a_map_of_a_prompt_is_named_with_its_flag(
    tiny: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = pairs / "images" / "00000.png"
    flags = {"validation_prompt": "a cat", "validation_image": photo}
    assert run(tiny, pairs, tmp_path / "run", **flags) == 2
    assert f"error: --validation_image {photo}: " in capsys.readouterr().err
    drawn = Image.open(pairs / "maps" / "00000.png").convert("L")
    clear = Image.new("RGBA", drawn.size, "white")
    clear.putalpha(drawn)  # white lines on nothing
    clear.save(tmp_path / "clear.png")
    flags["validation_image"] = tmp_path / "clear.png"
    assert run(tiny, pairs, tmp_path / "run", **flags) == 0


def test_flags_of_empty_prompts_win_over_a_saved_run(tmp_path: Path) -> None:
    base = ["--pretrained_model_name_or_path=x", "--train_data_dir=y"]

    def read(*flags: str) -> ControlConfig:
        return parse_config([*base, *flags], ControlConfig, prog="test")

    path = tmp_path / "config.yaml"
    for name in ("proportion_empty_prompts", "caption_dropout_rate"):
        path.write_text(read(f"--{name}=0.1").to_yaml())
        assert read(f"--config={path}").caption_dropout_rate == 0.1
        for other in ("proportion_empty_prompts", "caption_dropout_rate"):
            assert read(f"--config={path}", f"--{other}=0.2").caption_dropout_rate == 0.2
    path.write_text("proportion_empty_prompts: 0.0\ncaption_dropout_rate: 0.1\n")  # an older run's
    assert read(f"--config={path}").caption_dropout_rate == 0.1
    with pytest.raises(UserError, match="`proportion_empty_prompts` is 'few'"):
        read("--proportion_empty_prompts=few")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--hint_learning_rate=1e-3"], None),
        (["--hint_learning_rate=1e-4"], "hint_learning_rate"),
        (["--condition_type=canny", "--condition_setting=low=100"], None),
        (["--condition_type=scribble"], "condition_type"),
        (["--condition_setting=low=50"], "condition_setting"),
        (["--target_modules", *ATTENTION_AND_GEGLU], None),
        (["--target_modules", *ATTENTION], "target_modules"),
    ],
)
def test_what_is_usual_may_be_spelled_out(flags: list[str], name: str | None) -> None:
    default = ["--pretrained_model_name_or_path=x", "--train_data_dir=y"]
    saved = parse_config(default, ControlConfig, prog="test").resolved()
    config = parse_config([*default, *flags], ControlConfig, prog="test")
    assert config.difference(json.loads(json.dumps(saved))) == name


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("segmentation", {"labels": 3.5}, "`labels` is 3.5, but it must be a whole number"),
        ("segmentation", {"palette": 5}, "a word. Use for example ade20k"),
        ("canny", {"low": "abc"}, "a whole number. Use for example 100"),
        ("scribble", {"stroke": "bold"}, "a number. Use for example 0.02"),
        ("depth", {"metric": "abc"}, "true or false. Use for example false"),
    ],
)
def test_settings_of_maps_are_of_their_kind(
    kind: str, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        condition_of(kind, settings)


def test_a_photo_is_no_map(
    tiny: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    (wrong / "images").mkdir(parents=True)
    image = (pairs / "images" / "00000.png").read_bytes()
    for name in ("a.png", "b.png"):
        (wrong / "images" / name).write_bytes(image)
    row = {"file_name": "images/a.png", "conditioning_image": "images/b.png", "text": "a cat"}
    (wrong / "metadata.jsonl").write_text(json.dumps(row))
    assert run(tiny, wrong, tmp_path / "run") == 2
    assert "canny" in capsys.readouterr().err

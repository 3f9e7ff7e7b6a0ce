"""`python -m orthodiff`: generate, evaluate, inspect; bad requests exit 2 and write nothing."""

import json
from pathlib import Path

import pytest
from PIL import Image

from orthodiff.cli.main import main
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError
from orthodiff.evaluation.subject import PROMPTS, evaluate
from orthodiff.evaluation.subject_folder import phrase_of, read_subject
from orthodiff.io.png_metadata import read_recipe
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest
from tests.runs import make_images, start, train


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert train(tiny, make_images(folder / "pictures"), folder / "out") == 0
    return folder


def test_generate_writes_images_with_recipes_and_a_sheet(
    tiny: Path, run: Path, tmp_path: Path
) -> None:
    words = ["generate", "--pretrained_model_name_or_path", str(tiny), "--adapter"]
    words += [str(run / "out"), "--prompt", "a photo of sks dog in the snow"]
    words += ["--num_images", "3", "--seed", "5", "--output_dir", str(tmp_path / "out")]
    process = start(words, module="orthodiff")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "3 images" in output
    recipe = read_recipe(tmp_path / "out" / "02.png")
    assert recipe is not None
    assert (recipe.seed, recipe.method, recipe.width) == (7, "hra", 32)
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 2 * 128
    assert main([*words[:-1], str(tmp_path / "merged"), "--merge"]) == 0
    assert (tmp_path / "merged" / "02.png").is_file()


def test_evaluate_writes_grid_and_report(
    tiny: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--pretrained_model_name_or_path", str(tiny), "--adapter"]
    words += [str(run / "out"), "--subject", str(run / "pictures"), "--output_dir", str(tmp_path)]
    assert main(words) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["prompts"]) == len(PROMPTS) >= 8
    assert report["method"] == "hra"
    assert report["steps"] == 4
    assert report["seconds"] > 0
    assert "scorer" in report["scorer"]
    assert set(report["subject_similarity"]) == {"base", "adapted", "real_against_real"}
    assert set(report["prompt_similarity"]) == {"base", "adapted"}
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 9 * 128
    told = capsys.readouterr().out
    assert "grid.png" in told
    assert "Try next" in told


def test_inspect_prints_the_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--adapter", str(run / "out")]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert recipe["instance_prompt"] == "a photo of sks dog"
    assert recipe["steps"] == "4"
    assert len(recipe["base_sha256"]) == 64


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a photo of sks dog", "sks dog"),
        ("A photo of a sks stuffed animal", "sks stuffed animal"),
        ("sks dog", "sks dog"),
    ],
)
def test_the_subject_s_words_are_found(prompt: str, phrase: str) -> None:
    assert phrase_of(prompt) == phrase


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generat"], "generate"),
        (["generate", "--promt", "x"], "--prompt"),
        (["generate", "--pretrained_model_name_or_path", "BASE"], "`prompt` is missing"),
        (["generate", "--pretrained_model_name_or_path", "nowhere", "--prompt", "x"], "not exist"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x", "--merge"],
         "--adapter"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x", "--adapter",
          "BASE"], "adapter_config.json"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x", "--width", "33"],
         "Use 32"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x", "--dtype", "f"],
         "fp32, fp16, bf16"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x", "--device", "x"],
         "cannot be used here"),
        (["generate", "--pretrained_model_name_or_path", "BASE", "--prompt", "x",
          "--num_inference_steps", "1001"], "Use at most 1000"),
        (["evaluate", "--pretrained_model_name_or_path", "BASE", "--adapter", "x", "--subject", "x",
          "--prompt", "in the snow"], "where the subject goes"),
        (["inspect", "--adapter", "nowhere"], "adapter_config.json"),
        (["evaluate", "--pretrained_model_name_or_path", "BASE", "--adapter", "nowhere",
          "--subject", "nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_bad_requests(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    words = [str(tiny) if word == "BASE" else word for word in words]
    out = tmp_path / "out"
    if words[0] in ("generate", "evaluate"):
        words += ["--output_dir", str(out)]
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert told in errors
    assert not out.exists()


@pytest.mark.parametrize("dash", ["\u2014", "\u2013", "\u2212"])
@pytest.mark.parametrize("word", ["num_images", "num-images", "num_images=2"])
def test_a_long_dash_before_a_flag_is_no_prompt(
    dash: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--pretrained_model_name_or_path", "nowhere", "--prompt", "a dog"]
    assert main([*words, f"{dash}{word}", "2"]) == 2
    assert "Write --num_images." in capsys.readouterr().err


def test_a_long_dash_may_begin_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--pretrained_model_name_or_path", "nowhere", "--prompt", "\u2014 a dog"]
    assert main(words) == 2
    assert "`nowhere`" in capsys.readouterr().err


def test_evaluate_is_a_function_of_values_and_prints_nothing(
    tiny: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = load_base(str(tiny))
    subject = read_subject(run / "pictures", instance_prompt="a photo of sks dog")
    request = GenerateRequest.repeat("{}", num_images=2, seed=7, num_inference_steps=1)
    adapters = AdapterSet.load(base, run / "out")
    before = capsys.readouterr()
    report = evaluate(base, adapters, subject, prompts=["a {}", "{} there"], request=request)
    after = capsys.readouterr()
    assert (after.out, after.err, before.out) == ("", "", "")
    assert report.values["prompts"] == ["a sks dog", "sks dog there"]
    assert report.values["seeds"] == [7, 8]
    assert report.values["scorer"] is None
    assert not list(tmp_path.iterdir())
    report.save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == dict(report.values)
    with pytest.raises(UserError, match="where the subject goes"):
        evaluate(base, adapters, subject, prompts=["a dog"])


def test_a_negative_prompt_without_guidance_is_noted(
    tiny: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--pretrained_model_name_or_path", str(tiny), "--adapter"]
    words += [str(run / "out"), "--subject", str(run / "pictures"), "--output_dir", str(tmp_path)]
    words += ["--prompt", "a {}", "--num_images", "1", "--negative_prompt", "rain"]
    for guidance, noted in (("1", True), ("2", False)):
        assert main([*words, "--guidance_scale", guidance]) == 0
        assert ("The negative prompt has no effect" in capsys.readouterr().err) is noted


def test_merge_says_what_it_wrote(
    tiny: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    assert main(["merge", "--adapter", str(run / "out"), "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} written, exact to rounding.\n"

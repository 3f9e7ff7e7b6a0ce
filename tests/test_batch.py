"""A batch is made exactly once: interrupted anywhere, it goes on to the identical set of images."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import orthodiff
from orthodiff.batch.encode import Encoder
from orthodiff.batch.engines.local import LocalEngine
from orthodiff.batch.manifest import Manifest
from orthodiff.batch.store import Store
from orthodiff.batch.worker import Worker
from orthodiff.cli.main import main
from orthodiff.io.png_metadata import read_recipe
from orthodiff.models import load_base
from tests.batches import Call, images, records
from tests.test_samplers import left_half, photo


def test_rows_times_adapters_times_seeds(call: Call, adapters: list[Path], tmp_path: Path) -> None:
    words = ["--adapters", *adapters[:2], "none", "--strengths", "0.5", "1", "--num_images", "2"]
    code, printed = call(*words, prompts="a dog\n")
    out = tmp_path / "out"
    assert code == 0, printed
    assert "2 rows repeat earlier ones" in printed  # the base has no strength
    found = records(out)
    assert len(found) == len({record["id"] for record in found}) == 2 * 2 * 2 + 2
    assert sorted(record["index"] for record in found) == list(range(10))
    for record in found:
        file = out / record["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == record["sha256"]
        recipe = read_recipe(file)
        assert recipe is not None
        row = record["row"]
        assert (recipe.seed, recipe.strength) == (row["seed"], row.get("strength", 1.0))
        assert recipe.adapter == (Path(row["adapter"][0]).name if "adapter" in row else "")
        assert recipe.id == record["id"]
        assert {"torch", "diffusers", "orthodiff"} <= set(recipe.versions)
    page = (out / "index.html").read_text("utf-8")
    assert all(record["file"] in page for record in found)
    assert (out / "contact_sheet.png").is_file()


def test_an_image_does_not_depend_on_where_it_stands(
    call: Call, adapters: list[Path], tmp_path
) -> None:
    call("--adapters", *adapters, out="all")
    call("--adapters", adapters[1], "--name", "{id}", out="one", prompts="a blue dog\n")
    (alone,) = records(tmp_path / "one")
    (same,) = [r for r in records(tmp_path / "all") if r["id"] == alone["id"]]
    assert same["row"] == alone["row"]
    assert (tmp_path / "one" / f"{alone['id']}.png").is_file()


def test_a_finished_batch_is_left_as_it_is(call: Call, tmp_path: Path) -> None:
    call()
    before = images(tmp_path / "out")
    code, printed = call()
    assert (code, images(tmp_path / "out")) == (0, before)
    assert "0 images" in printed
    assert "4 were there already" in printed


@pytest.mark.parametrize("place", ["append", "_appear", "_write"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_cut_off_anywhere_it_goes_on_to_the_identical_set(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    call(out="whole")
    owner = Manifest if place == "append" else Store
    real, calls = getattr(owner, place), []

    def dying(*given: object) -> object:
        calls.append(place)
        if len(calls) == number:
            raise SystemExit("killed")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, dying)
        with pytest.raises(SystemExit):
            call()
    code, printed = call()
    assert code == 0, printed
    assert images(tmp_path / "out") == images(tmp_path / "whole")
    found = records(tmp_path / "out")
    assert len(found) == len({record["id"] for record in found}) == 4
    assert not list((tmp_path / "out").glob(".partial*"))


def test_a_line_cut_off_by_a_crash_is_written_anew(call: Call, tmp_path: Path) -> None:
    call()
    manifest, whole = tmp_path / "out" / "manifest.jsonl", images(tmp_path / "out")
    content = manifest.read_bytes()
    last = records(tmp_path / "out")[-1]["file"]
    manifest.write_bytes(content[:-20])
    (tmp_path / "out" / last).unlink()
    assert call()[0] == 0
    assert images(tmp_path / "out") == whole
    assert len(records(tmp_path / "out")) == 4


def test_a_deleted_image_is_made_again(call: Call, tmp_path: Path) -> None:
    call()
    whole = images(tmp_path / "out")
    (tmp_path / "out" / next(iter(whole))).unlink()
    assert call()[0] == 0
    assert images(tmp_path / "out") == whole


def test_a_batch_may_grow_but_not_become_another(call: Call, tmp_path: Path) -> None:
    assert call("--limit", "2")[0] == 0
    first = images(tmp_path / "out")
    assert call()[0] == 0
    assert first.items() <= images(tmp_path / "out").items()
    assert len(images(tmp_path / "out")) == 4
    whole = images(tmp_path / "out")
    code, printed = call(prompts="another\n")
    assert code == 2
    assert "holds another batch" in printed
    assert images(tmp_path / "out") == whole


def test_overwrite_replaces_our_own_and_nothing_else(call: Call, tmp_path: Path) -> None:
    call()
    mine = tmp_path / "out" / "mine.png"
    photo().save(mine)
    before = mine.read_bytes()
    assert call("--overwrite", prompts="another\n")[0] == 0
    assert mine.read_bytes() == before
    assert len(images(tmp_path / "out")) == 2


@pytest.mark.parametrize("name", ["00001-a-blue-dog-0.png", "index.html", "contact_sheet.png"])
@pytest.mark.parametrize("words", [(), ("--overwrite",)])
def test_files_of_others_are_never_overwritten(
    call: Call, tmp_path: Path, name: str, words
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    code, printed = call(*words)
    assert code == 2
    assert name in printed
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [
        (name, "mine")
    ]


def test_a_few_prompts_overwrite_nothing_either(tiny: Path, tmp_path: Path) -> None:
    words = ["generate", "--pretrained_model_name_or_path", str(tiny), "--prompt", "a dog"]
    (tmp_path / "00.png").write_text("mine")
    assert main([*words, "--output_dir", str(tmp_path)]) == 2
    assert (tmp_path / "00.png").read_text() == "mine"
    assert main([*words, "--output_dir", str(tmp_path / "a"), "--num_images", "3"]) == 0
    assert main([*words, "--output_dir", str(tmp_path / "a"), "--seed", "9"]) == 2
    assert main([*words, "--output_dir", str(tmp_path / "a"), "--seed", "9", "--overwrite"]) == 0
    assert set(images(tmp_path / "a")) == {"00.png"}  # no surplus of the first


ROWS = '{"prompt": "a dog"}\n{"prompt": "b", "adapter": "ADAPTER"}\n{"prompt": "c"}\n'


@pytest.fixture(scope="module")
def foreign(tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that can be read, but is for another base."""
    base, folder = load_base(str(tiny_xl)), tmp_path_factory.mktemp("foreign") / "adapter"
    orthodiff.attach(base.denoiser, orthodiff.HRA(rank=2)).save(folder)
    return folder


def test_a_failed_row_is_recorded_and_the_batch_goes_on(
    tiny: Path, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "rows.jsonl").write_text(ROWS.replace("ADAPTER", str(foreign)))
    words = ["generate", "--pretrained_model_name_or_path", str(tiny), "--batch_size", "2"]
    words += ["--prompts", str(tmp_path / "rows.jsonl"), "--output_dir", str(out)]
    assert main(words) == 1
    assert "1 of 3 failed" in capsys.readouterr().out
    assert [record["row"]["prompt"] for record in records(out)] == ["a dog", "c"]
    (failed,) = records(out, "failed")
    assert failed["row"]["prompt"] == "b"
    assert failed["error"] in (out / "index.html").read_text().replace("&#x27;", "'")
    assert main(words) == 1  # told again, not tried again
    assert len(records(out, "failed")) == 1
    assert main([*words, "--retry_failed"]) == 1
    assert len(records(out, "failed")) == 2


@pytest.mark.parametrize("words", [["--stop_on_error"], []])
def test_one_bad_image_of_a_chunk_does_not_take_the_others_along(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    real = Worker._paint

    def fails(self, items):
        if any(item.row.prompt == "bad" for item in items):
            raise RuntimeError("broken\nfor a reason")
        return real(self, items)

    monkeypatch.setattr(Worker, "_paint", fails)
    out = tmp_path / "out"
    (tmp_path / "rows.txt").write_text("a\nb\nbad\nc\nd\n")
    words = ["generate", "--pretrained_model_name_or_path", str(tiny), "--batch_size", "4", *words]
    words += ["--prompts", str(tmp_path / "rows.txt"), "--output_dir", str(out)]
    assert main(words) == 1
    made = [record["row"]["prompt"] for record in records(out)]
    assert made == (["a", "b"] if "--stop_on_error" in words else ["a", "b", "c", "d"])
    (failed,) = records(out, "failed")
    assert failed["error"] == "RuntimeError: broken."
    monkeypatch.setattr(Worker, "_paint", real)
    assert main([*words, "--retry_failed"]) == 0
    assert len(images(out)) == 5


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ([], ".png"),
        (["--format", "webp"], ".webp"),
        (["--format", "jpeg"], ".jpg"),
        (["--sidecar"], ".png"),
    ],
)
def test_every_format_carries_its_recipe(call: Call, tmp_path: Path, words, ending: str) -> None:
    assert call(*words, "--negative_prompt", "naïve, “blurry”", prompts="a dog, 1: x\n")[0] == 0
    (record,) = records(tmp_path / "out")
    file = tmp_path / "out" / record["file"]
    assert file.suffix == ending
    recipe = read_recipe(file)
    assert recipe is not None
    assert (recipe.prompt, recipe.negative_prompt) == ("a dog, 1: x", "naïve, “blurry”")
    with Image.open(file) as image:
        image.load()
        assert ("parameters" in getattr(image, "text", {})) == (words == [])


def test_no_metadata_leaves_none(call: Call, tmp_path: Path) -> None:
    assert call("--no_metadata", prompts="a dog\n")[0] == 0
    (record,) = records(tmp_path / "out")
    assert read_recipe(tmp_path / "out" / record["file"]) is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--name", "{prompt"], "is no template"),
        (["--name", "{promt}"], "`{prompt}`|`prompt`"),
        (["--name", "../{id}"], "within the output folder"),
        (["--name", "{seed:.3q}"], "does not work"),
        (["--name", "{prompt.__class__}"], "not known"),
        (["--sidecar", "--no_metadata"], "Leave one out"),
        (["--adapters", "nowhere"], "adapter_config.json"),
        (["--width", "33"], "Use 32"),
        (["--mask", "nowhere.png"], "no image to start from"),
        (["--init_image", "nowhere.png"], "nowhere.png.* cannot be read"),
        (["--guidance_scale", "inf"], "finite"),
        (["--guidance_scale", "nan"], "`guidance_scale`"),
        (["--strength", "nan"], "`strength`"),
        (["--control_strength", "nan"], "`control_strength`"),
        (["--lists", "x"], "NAME=A,B,C"),
        (["--wildcards", "nowhere"], "no folder"),
        (["--sampler", "eulr"], "`sampler` is 'eulr'"),
    ],
)
def test_bad_requests_write_nothing(call: Call, tmp_path: Path, words, text: str) -> None:
    code, printed = call(*words)
    assert code == 2
    assert re.search(text, printed), printed
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(call: Call, tmp_path) -> None:
    (tmp_path / "out").write_text("mine")
    code, printed = call()
    assert (code, (tmp_path / "out").read_text()) == (2, "mine")
    assert "cannot be written" in printed


def test_names_are_short_and_of_any_script(call: Call, tmp_path: Path) -> None:
    assert call("--name", "{prompt}", prompts=f"{'ü' * 300}/../x\nсобака: 犬?\n")[0] == 0
    names = sorted(images(tmp_path / "out"))
    assert len(names) == 2
    assert "собака-犬.png" in names
    assert all(len(name.encode()) < 200 for name in names)


def test_rows_of_one_name_are_told_apart_by_their_ids(call: Call, tmp_path: Path) -> None:
    assert call("--name", "{adapter}")[0] == 0
    assert set(images(tmp_path / "out")) == {
        f"base-{r['id']}.png" for r in records(tmp_path / "out")
    }


def test_a_full_disk_leaves_what_is_done(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(out="whole")
    real, calls = Store._write, []

    def full(self, content: bytes):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write", full)
        code, printed = call()
    assert code == 2
    assert "No space left on device" in printed
    assert "2 of 4 images are done and stay" in printed
    assert len(images(tmp_path / "out")) == 2
    assert call()[0] == 0
    assert images(tmp_path / "out") == images(tmp_path / "whole")


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    code, printed = call("--dry_run")
    assert code == 0
    assert "4 images" in printed
    assert "minutes" in printed
    assert "a green dog" in printed
    assert not (tmp_path / "out").exists()


def test_guidance_of_one_drops_the_negative_prompt_and_says_so(call: Call, tmp_path: Path) -> None:
    code, printed = call("--guidance_scale", "1", "--negative_prompt", "blurry", prompts="a dog\n")
    assert code == 0
    assert "no effect on 1 of 1" in printed
    (record,) = records(tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / record["file"])
    assert recipe is not None
    assert recipe.negative_prompt == ""


def test_img2img_and_inpainting_in_rows(call: Call, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    left_half().save(tmp_path / "mask.png")
    rows = [
        {"prompt": "a"},
        {"prompt": "a", "init_image": str(tmp_path / "photo.png"), "denoise": 0.5},
        {
            "prompt": "a",
            "init_image": str(tmp_path / "photo.png"),
            "mask": str(tmp_path / "mask.png"),
        },
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert call("--prompts", tmp_path / "rows.jsonl")[0] == 0
    found = [read_recipe(tmp_path / "out" / r["file"]) for r in records(tmp_path / "out")]
    assert [(r.init_image, r.mask, r.denoise) for r in found if r] == [
        ("", "", None), ("photo.png", "", 0.5), ("photo.png", "mask.png", 1.0),
    ]  # fmt: skip
    assert len(set(images(tmp_path / "out").values())) == 3


def test_two_processes_do_not_work_in_one_folder(call: Call, tmp_path: Path) -> None:
    with Store(tmp_path / "out").opened():
        code, printed = call()
    assert code == 2
    assert "Another process is making a batch" in printed


def test_an_engine_that_is_left_early_stops_making() -> None:
    made: list[int] = []

    class Slow:
        notes = ()

        def make(self, chunk):
            made.append(chunk)
            return []

        def close(self) -> None:
            pass

    with LocalEngine(lambda: Slow(), Encoder()) as engine:  # type: ignore[arg-type,return-value]
        for _ in engine.run(range(1000)):  # type: ignore[arg-type]
            break
    assert len(made) < 10

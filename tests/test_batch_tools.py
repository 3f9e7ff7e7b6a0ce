"""Grids, reproduction and streaming: the same images by other ways in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff.batch.grid import Axis, draw_grid
from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from tests.batches import Call, images, records
from tests.test_samplers import photo

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny))


@pytest.fixture
def grid(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str]:
        given = ["--pretrained_model_name_or_path", tiny, "--output_dir", tmp_path / "grid", *words]
        code = main(["grid", *map(str, given)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_three_axes_make_a_sheet_for_each_value_of_the_last(grid, adapters, tmp_path) -> None:
    words = ["--prompt", "a dog", "--x", "seed=1,2,3", "--y", f"adapter=none,{adapters[0]}"]
    code, printed = grid(*words, "--z", "sampler=ddim,euler", "--num_inference_steps", 2)
    assert code == 0, printed
    found = records(tmp_path / "grid")
    rows = [(r["row"]["seed"], "adapter" in r["row"], r["row"]["sampler"]) for r in found]
    expected = [(s, a, n) for n in ("ddim", "euler") for a in (False, True) for s in (1, 2, 3)]
    assert sorted(rows) == sorted(expected)
    assert [r["row"]["seed"] for r in sorted(found, key=lambda r: r["index"])] == [1, 2, 3] * 4
    sheets = sorted(path.name for path in (tmp_path / "grid").glob("grid*.png"))
    assert sheets == ["grid-1.png", "grid-2.png"]
    assert grid(*words, "--z", "sampler=ddim,euler", "--num_inference_steps", 2)[0] == 0
    assert len(records(tmp_path / "grid")) == 12


def test_values_that_make_the_same_image_share_it(grid, tmp_path: Path) -> None:
    assert grid("--prompt", "a dog", "--x", "seed=1,1", "--num_inference_steps", 1)[0] == 0
    assert len(records(tmp_path / "grid")) == 1
    with Image.open(tmp_path / "grid" / "grid.png") as sheet:
        assert sheet.width > 2 * 128


def test_a_sheet_shows_images_in_their_places() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), None]
    cells = [Image.new("RGB", (128, 128), c) if c else None for c in colours]
    x, y = Axis.parse("seed=1,2"), Axis.parse("prompt=a|b")
    pixels = np.asarray(draw_grid(cells, x, y, title="Ю"))
    centres = {c: np.argwhere((pixels == c).all(-1)).mean(0) for c in colours if c}
    red, green, blue = (centres[c] for c in colours if c)
    assert green[1] - red[1] > 128
    assert abs(green[0] - red[0]) < 1
    assert blue[0] - red[0] > 128
    assert abs(blue[1] - red[1]) < 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--prompt", "a", "--x", "sed=1,2"], "`sed` cannot be an axis.*`seed`"),
        (["--prompt", "a", "--x", "seed="], "has no values"),
        (["--prompt", "a", "--x", "seed=1,x"], "`seed` is 'x'"),
        (["--prompt", "a", "--x", "seed=1", "--y", "seed=2"], "Two axes vary `seed`"),
        (["--prompt", "a", "--x", "seed=1", "--z", "steps=2"], "not `y`"),
        (["--prompt", "{a|b}", "--x", "seed=1"], "Make them an axis"),
        (["--x", "seed=1"], "needs a prompt"),
        (["--prompt", "a"], "`x` is missing"),
    ],
)
def test_bad_axes_are_refused(grid, tmp_path: Path, words, text: str) -> None:
    code, printed = grid(*words)
    assert code == 2
    assert re.search(text, printed), printed
    assert not (tmp_path / "grid").exists()


def test_every_image_of_a_batch_is_reproduced_to_the_bit(
    call: Call,
    adapters,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo().save(tmp_path / "photo.png")
    words = ["--adapters", adapters[0], "none", "--merge", "--samplers", "ddim", "euler_a"]
    assert call(*words, "--init_image", tmp_path / "photo.png", "--denoise", 0.7)[0] == 0
    for name in images(tmp_path / "out"):
        assert main(["reproduce", str(tmp_path / "out" / name)]) == 0
        assert "identical, bit for bit" in capsys.readouterr().out


def test_an_image_elsewhere_says_what_has_changed(
    call: Call,
    adapters,
    tiny: Path,
    tmp_path: Path,
    capsys,
) -> None:
    assert call("--adapter", adapters[0], "--name", "{seed}", prompts="a dog\n")[0] == 0
    elsewhere = tmp_path / "elsewhere" / "deep" / "down" / "it.png"
    elsewhere.parent.mkdir(parents=True)
    (tmp_path / "out" / "0.png").rename(elsewhere)
    base = ["--pretrained_model_name_or_path", str(tiny)]
    assert main(["reproduce", str(elsewhere), *base]) == 2  # the folder's name alone
    capsys.readouterr()
    found = ["--adapter", str(adapters[0])]
    again = ["--output", str(tmp_path / "again.png")]
    assert main(["reproduce", str(elsewhere), *base, *found, *again]) == 0
    assert (tmp_path / "again.png").is_file()
    capsys.readouterr()
    assert main(["reproduce", str(elsewhere), *base, "--adapter", str(adapters[1])]) == 1
    printed = capsys.readouterr()
    assert "differs by at most" in printed.out
    assert "adapter_sha256" in printed.err


def test_images_without_a_recipe_are_refused(tmp_path: Path, capsys) -> None:
    photo().save(tmp_path / "photo.png")
    assert main(["reproduce", str(tmp_path / "photo.png")]) == 2
    assert "does not say how it was made" in capsys.readouterr().err
    assert main(["reproduce", str(tmp_path / "none.png")]) == 2


def test_rows_stream_from_python_and_one_failure_does_not_end_them(
    base: Base,
    adapters,
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": "a", "seed": 1},
        {"prompt": "b", "adapter": str(adapters[0]), "steps": 2},
        {"prompt": "broken", "init_image": str(tmp_path / "photo.png")},
        "a cat",
        {"prompt": "a", "seed": 1},
    ]
    photo().save(tmp_path / "photo.png")
    stream = orthodiff.generate_many(base, rows, batch_size=2)
    first = next(stream)
    (tmp_path / "photo.png").unlink()
    found = {each.index: each for each in (first, *stream)}
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert "photo.png" in found[2].error
    assert found[2].image is None
    assert all(found[n].image is not None for n in (0, 1, 3, 4))
    assert found[1].recipe is not None
    assert found[1].recipe.num_inference_steps == 2
    assert not any("lora" in name or "hra" in name for name, _ in base.denoiser.named_parameters())


def test_a_bad_row_is_refused_before_any_work(base: Base) -> None:
    with pytest.raises(UserError, match="`sed` is not a known setting"):
        next(orthodiff.generate_many(base, [{"prompt": "a"}, {"prompt": "b", "sed": 1}]))
    assert list(orthodiff.generate_many(base, [])) == []


def test_measured_choices_are_said_and_kept(call: Call, tmp_path: Path, capsys) -> None:
    code, _ = call("--prompts", _many(tmp_path, 9), out="a")
    header = records(tmp_path / "a", "batch")[0]
    assert code == 0
    assert header["measured"]["batch_size"] == 3  # asked for
    words = ["generate", "--pretrained_model_name_or_path", header["base"]["name"]]
    words += ["--prompts", str(_many(tmp_path, 9)), "--output_dir", str(tmp_path / "b")]
    assert main(words) == 0
    assert "images are made at once: of 1 at once" in capsys.readouterr().err
    measured = records(tmp_path / "b", "batch")[0]["measured"]
    assert measured["batch_size"] in (1, 2, 4, 8)
    assert measured["seconds_per_image"] > 0
    for name in images(tmp_path / "b"):
        (tmp_path / "b" / name).unlink()
    before = json.dumps(measured)
    assert main(words) == 0
    assert json.dumps(records(tmp_path / "b", "batch")[0]["measured"]) == before
    assert "made at once" not in capsys.readouterr().err


def _many(folder: Path, count: int) -> Path:
    path = folder / "many.txt"
    path.write_text("".join(f"a dog --d {number}\n" for number in range(count)))
    return path


def test_torch_is_left_with_its_threads(base: Base) -> None:
    before = torch.get_num_threads()
    list(orthodiff.generate_many(base, ["a"], batch_size=1, merge=False))
    assert torch.get_num_threads() == before

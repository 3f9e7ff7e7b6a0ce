"""Rows out of files, templates and axes: what is written is what is made, or is refused by line."""

from pathlib import Path

import pytest

import orthodiff
from orthodiff.batch.rows.axes import Axes, cross
from orthodiff.batch.rows.expand import TRIGGER, Sources, expand
from orthodiff.batch.rows.files import Written, read_prompts
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError
from orthodiff.models import load_base


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(path: Path, **options):
    return [dict(each.values) for each in read_prompts(path, **options).rows]


def forms(text: str, combine="product", **sources) -> list[str]:
    return [form for (form,) in expand([text], Sources(**sources), combine=combine)]


FULL = {
    "prompt": "a dog, sitting", "negative_prompt": "blurry", "width": "512", "height": "768",
    "seed": "7", "guidance_scale": "4.5", "num_inference_steps": "30",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# note\n\na dog, sitting --n blurry --w 512 --h 768 --d 7 --l 4.5 --s 30\n"),
        ("a.csv", 'prompt,negative,size,seed,cfg,steps\n"a dog, sitting",blurry,'
                  "512x768,7,4.5,30\n"),
        ("b.csv", "\ufeffPrompt;Negative Prompt;w;h;seed;guidance;steps\n"
                  "a dog, sitting;blurry;512;768;7;4.5;30\n"),
        ("a.jsonl", '{"prompt": "a dog, sitting", "negative": "blurry", "size": "512x768", '
                    '"seed": "7", "guidance": "4.5", "steps": "30"}\n\n'),
        ("a.yaml", "defaults: {negative: blurry, w: '512', h: '768'}\n"
                   "rows: [{prompt: 'a dog, sitting', seed: '7', cfg: '4.5', steps: '30'}]\n"),
    ],
)  # fmt: skip
def test_every_format_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert rows(write(tmp_path, name, text)) == [FULL]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "a dog\na cat --x 5\n", "line 2: `--x` is not a known option"),
        ("a.txt", "a dog --s 5 --s 6\n", "line 1: `--s` is given twice"),
        ("a.txt", "a dog --s\n", "`--s` has no value"),
        ("a.txt", "\n# nothing\n", "holds no prompts"),
        ("a.txt", b"a dog\nna\xefve\n", "line 2: it is not UTF-8"),
        ("a.csv", "prompt,seeed\na dog,5\n", "line 2: `seeed` is not a known field.*`seed`"),
        ("a.csv", "prompt,seed\na dog, on grass,5\n", "line 2: it has 3 cells.*header has 2"),
        ("a.csv", "seed\n5\n", "line 2: `prompt` is missing"),
        ("a.csv", "prompt,size\na dog,512\n", "line 2: `size` is '512'.*512x768"),
        ("a.csv", "prompt,size,width\na dog,512x512,64\n", "`width` says `width` a second time"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: it is not JSON"),
        ("a.jsonl", "5\n", "line 1: it is 5"),
        ("a.yaml", "rows: 5\n", "must be a list of rows"),
        ("a.yaml", "rows: []\nlist: {}\n", "`list` is not known.*`lists`"),
        ("a.yaml", "a: [\n", "is not YAML"),
        ("a.docx", "a dog", "ending is none of .txt"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_by_line(tmp_path: Path, name: str, text, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_prompts(write(tmp_path, name, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_bad_lines_can_be_skipped_and_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"prompt": "a"}\nnonsense\n{"prompt": "b", "sed": 1}\n"c"\n')
    file = read_prompts(path, skip_bad=True)
    assert [each.values["prompt"] for each in file.rows] == ["a", "c"]
    assert ["line 2" in file.skipped[0], "line 3" in file.skipped[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {red|blue} dog", ["a red dog", "a blue dog"]),
        ("{a|b} {1|2}", ["a 1", "a 2", "b 1", "b 2"]),
        ("{a|b {c|d}}", ["a", "b c", "b d"]),
        ("a {|very }big dog", ["a big dog", "a very big dog"]),
        ("$place and $place", ["snow and snow", "sand and sand"]),
        ("${place}s", ["snows", "sands"]),
        ("{x $place|y}", ["x snow", "x sand", "y"]),
        ("a __animal__", ["a cat", "a big dog", "a small dog"]),
        ("__deep/tree__", ["oak"]),
        ("{trigger} on grass", [f"{TRIGGER} on grass"]),
        (r"\{a|b\} \$place \__animal__", ["{a|b} $place __animal__"]),
        ("5$ and $5 snake_case __", ["5$ and $5 snake_case __"]),
    ],
)
def test_templates_expand_in_the_order_of_writing(tmp_path: Path, text: str, expected) -> None:
    write(tmp_path, "animal.txt", "# beasts\ncat\n\n{big|small} dog\n")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", "tree.txt", "oak\n")
    assert forms(text, lists={"place": ["snow", "sand"]}, folder=tmp_path) == expected


def test_lists_are_zipped() -> None:
    text = "{a|b} {1|2} $one"
    assert forms(text, "zip", lists={"one": ["x"]}) == ["a 1 x", "b 2 x"]
    with pytest.raises(UserError, match="2 and 3 values cannot be zipped"):
        forms("{a|b} {1|2|3}", "zip")


def test_a_list_has_one_value_in_prompt_and_negative_prompt() -> None:
    found = list(expand(["a $x dog", "no $x"], Sources({"x": ["red", "blue"]})))
    assert found == [("a red dog", "no red"), ("a blue dog", "no blue")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a $plase", r"`\$plase` is not a known list.*`\$place`"),
        ("a __anmal__", "`__anmal__` is not a known wildcard.*`animal`"),
        ("__loop__", "`__loop__` contains itself"),
        ("$round", r"`\$round` contains itself"),
        ("__empty__", "empty.txt` is empty"),
        ("a {triger} dog", "offers no alternatives"),
        ("a {b|c", "opens a brace that is not closed"),
        ("{a|b}" * 90, "Use fewer alternatives"),
    ],
)
def test_bad_templates_are_refused(tmp_path: Path, text: str, words: str) -> None:
    for name, content in (
        ("animal", "cat"),
        ("loop", "a __again__"),
        ("again", "__loop__"),
        ("empty", ""),
    ):
        write(tmp_path, f"{name}.txt", content)
    lists = {"place": ["snow"], "round": ["$round"]}
    with pytest.raises(UserError, match=words):
        forms(text, lists=lists, folder=tmp_path)


def made(written: list[dict], axes: Axes | None = None, **options) -> list[tuple]:
    found, _ = cross(
        [Written(f"row {n}", v) for n, v in enumerate(written)],
        axes or Axes(),
        Sources(),
        **options,
    )
    return [(row.prompt, row.seed, row.strength, row.sampler) for row in found]


def test_rows_are_crossed_and_what_a_row_says_holds() -> None:
    axes = Axes(adapter=[("a",), ("b",)], strength=[0.5, 1], seed=[3, 4], sampler=["ddim"])
    one, two = made([{"prompt": "x"}], axes), made([{"prompt": "x", "seed": 9}], axes)
    assert len(one) == 2 * 2 * 2
    assert one[:4] == [
        ("x", 3, 0.5, "ddim"),
        ("x", 4, 0.5, "ddim"),
        ("x", 3, 1, "ddim"),
        ("x", 4, 1, "ddim"),
    ]
    assert [row[1] for row in two] == [9] * 4
    assert made([{"prompt": "{x|y}"}], axes, limit=3) == one[:3]


def test_seeds_are_counted_from_the_row_s_own() -> None:
    axes = Axes(num_images=2, defaults={"seed": 5})
    assert [row[1] for row in made([{"prompt": "x"}, {"prompt": "y", "seed": "8"}], axes)] == [
        5,
        6,
        8,
        9,
    ]
    assert [row[1] for row in made([{"prompt": "x", "seed": [1, 2, 3]}], axes)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "seed": "seven"}, "row 0: `seed` is 'seven'"),
        ({"prompt": "x", "guidance_scale": "nan"}, "`guidance_scale` is 'nan'.*finite"),
        ({"prompt": "x", "strength": "inf"}, "`strength` is 'inf'.*finite"),
        ({"prompt": "x", "sampler": "eulr"}, "`sampler` is 'eulr'"),
        ({"prompt": "x", "denoise": "2"}, "`denoise`"),
        ({"prompt": "{trigger}"}, "there is no adapter"),
        ({"prompt": "x", "checkpoint": "3"}, "`checkpoint` needs an adapter"),
    ],
)
def test_bad_rows_are_refused_by_place(row, words: str) -> None:
    with pytest.raises(UserError, match=words):
        made([row])
    assert len(made([row, {"prompt": "good"}], skip_bad=True)) == 1


def test_the_trigger_is_that_of_the_adapter(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    adapter = orthodiff.attach(base.denoiser, orthodiff.HRA(rank=2))
    bundle = AdapterSet(base, {"unet": adapter})
    run = tmp_path / "run"
    bundle.save(run, metadata={"instance_prompt": "a photo of sks dog"})
    bundle.save(run / "checkpoint-20", metadata={"instance_prompt": "a photo of sks dog"})
    bundle.detach()
    row = {"prompt": "{trigger} in the snow", "adapter": str(run)}
    assert made([row])[0][0] == "sks dog in the snow"
    found, _ = cross([Written("row", {**row, "checkpoint": "20"})], Axes(), Sources())
    assert found[0].adapter == (str(run / "checkpoint-20"),)
    with pytest.raises(UserError, match=r"has no such folder\. There are 20"):
        made([{**row, "checkpoint": "30"}])

"""The studio's library, prompt files and previews through the API: what people bring, and get."""

from __future__ import annotations

import asyncio
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff.cli.main import main
from orthodiff.components.compose import load_all
from orthodiff.models import load_base
from orthodiff.studio.api.app import make_app
from orthodiff.studio.security.guard import Rules, allowed_hosts
from orthodiff.studio.security.users import Users, token_digest
from orthodiff.studio.services.library import fit
from orthodiff.studio.state import Studio
from tests.test_blend import trained
from tests.test_studio_api import TOKENS, Client, follow, upload

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def adapter(tiny: Path, place: Path) -> Path:
    return trained(load_base(tiny), place / "mine", 1)


@pytest.fixture(scope="module")
def ask(tiny: Path, place: Path) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        studio = Studio.open(bases=[str(tiny)], data=place / "data", runs=place / "runs")
        users = Users({name: token_digest(token) for name, token in TOKENS.items()})
        rules = Rules(hosts=allowed_hosts("127.0.0.1", []), body=1, upload=8)

        async def build() -> Any:
            return make_app(studio, users=users, rules=rules)

        yield Client(asyncio.run(build()))
        studio.close()


def bring(ask: Client, *files: tuple[str, bytes], user: str = "ann") -> Any:
    parts = [("files", (name, content)) for name, content in files]
    return ask("POST", "/api/adapters/import", files=parts, user=user)


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return [(name, (folder / name).read_bytes()) for name in FILES]


def zipped(folder: Path, *more: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in [*((f"my lora/{n}", c) for n, c in contents(folder)), *more]:
            pack.writestr(name, content)
    return packed.getvalue()


@pytest.fixture(scope="module")
def brought(ask: Client, adapter: Path) -> dict[str, Any]:
    answer = bring(ask, *contents(adapter))
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_adapter_is_brought_used_renamed_deleted_and_restored(
    ask: Client, brought: dict[str, Any], tiny: Path, adapter: Path
) -> None:
    assert (brought["method"], brought["base"], brought["kind"]) == ("hra", tiny.name, "subject")
    assert brought["id"] in [one["id"] for one in ask("GET", "/api/adapters").json()]
    assert brought["id"] not in [one["id"] for one in ask("GET", "/api/jobs").json()["jobs"]]
    assert ask("GET", "/api/adapters", user="bob").json() == []
    config = {
        "adapters": [{"id": brought["id"]}], "prompts": ["a cat"], "num_images": 1,
        "num_inference_steps": 2, "compare": True,
    }  # fmt: skip
    made = ask("POST", "/api/generate", json={"config": config}).json()
    assert follow(ask, made["id"])["status"] == "succeeded"
    base, adapted = (
        np.asarray(Image.open(io.BytesIO(ask("GET", f"/{image['url']}").content)))
        for image in ask("GET", f"/api/jobs/{made['id']}/images").json()
    )
    assert (base != adapted).any(), "the weights that were brought have no effect"
    job = f"/api/jobs/{brought['job']}"
    assert ask("POST", f"{job}/rename", json={"name": "other"}).json()["name"] == "other"
    assert ask("DELETE", job).status_code == 204
    assert ask("GET", f"/api/adapters/{brought['id']}").status_code == 422
    ask("POST", f"{job}/restore")
    assert ask("GET", f"/api/adapters/{brought['id']}").json()["adapter"]["name"] == "other"


def test_a_zip_of_a_folder_is_brought_by_its_name(ask: Client, adapter: Path) -> None:
    extra = ("my lora/README.md", b"hello"), ("__MACOSX/._adapter_config.json", b"x")
    answer = bring(ask, ("My LoRA v2.zip", zipped(adapter, *extra))).json()
    assert answer["name"] == "my-lora-v2"
    facts = ask("GET", f"/api/adapters/{answer['id']}").json()["facts"]
    assert facts["parts"] == "UNet"
    assert facts["rank"] == "2"
    assert int(facts["parameters"].replace(",", "")) > 100


@pytest.mark.parametrize(
    ("change", "told"),
    {
        "no config": (lambda f: f[1:], "no adapter_config.json"),
        "a pickle": (lambda f: [*f, ("adapter_model.bin", b"x")], "can run code"),
        "cut off": (lambda f: [f[0], (FILES[1], f[1][1][:200])], "truncated or not safetensors"),
        "no zip": (lambda f: [("a.zip", b"hello")], "no zip that can be opened"),
        "no JSON": (lambda f: [(FILES[0], b"{"), f[1]], "not readable JSON"),
        "unknown": (lambda f: [(FILES[0], b'{"peft_type": "EVIL"}'), f[1]], "peft_type 'EVIL'"),
        "twice": (lambda f: [*f, f[0]], "is there twice"),
    }.values(),
)
def test_what_is_no_adapter_is_refused_and_leaves_nothing(
    ask: Client, adapter: Path, place: Path, change: Any, told: str
) -> None:
    before = sorted((place / "data" / "adapters").iterdir())
    answer = bring(ask, *change(contents(adapter)))
    assert answer.status_code == 422
    assert told in answer.json()["error"]
    assert str(place) not in answer.json()["error"]
    assert sorted((place / "data" / "adapters").iterdir()) == before


def test_an_adapter_of_another_base_is_refused_by_its_shapes(
    ask: Client, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "other")
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / FILES[1])
    wide = {name: torch.cat([tensor, tensor], dim=0) for name, tensor in tensors.items()}
    save_file(wide, tmp_path / "other" / FILES[1])
    answer = bring(ask, *contents(tmp_path / "other"))
    assert answer.status_code == 422
    assert "does not fit" in answer.json()["error"]


def test_a_base_without_a_configuration_is_loaded_to_see(
    tiny: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit.main(str(tiny), str(adapter)) == 0
    asked = []
    monkeypatch.setattr(fit, "run_command", lambda words, **how: asked.append((words, how)))
    fit.check_adapter(str(tmp_path), adapter)
    assert asked[0][0] == [str(tmp_path), str(adapter)]
    assert asked[0][1]["module"] == fit.__name__


def test_names_in_a_zip_lead_nowhere(ask: Client, adapter: Path, place: Path) -> None:
    evil = [("../../adapter_config.json", b"x"), ("/tmp/tokens.safetensors", b"x")]
    before = {path for path in place.rglob("*.json") if "adapters" not in path.parts}
    answer = bring(ask, ("evil.zip", zipped(adapter, *evil)))
    assert answer.status_code == 422
    assert {path for path in place.rglob("*.json") if "adapters" not in path.parts} == before


def test_a_zip_that_grows_is_stopped(
    ask: Client, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orthodiff.studio.services.library.unpack.MOST_BYTES", 1 << 20)
    bomb = zipped(adapter, ("my lora/tokens.safetensors", bytes(4 << 20)))
    assert len(bomb) < 1 << 20
    assert "is larger than" in bring(ask, ("bomb.zip", bomb)).json()["error"]


def test_two_adapters_are_kept_as_one(
    ask: Client, brought: dict[str, Any], tiny: Path, adapter: Path, tmp_path: Path, place: Path
) -> None:
    second = trained(load_base(tiny), tmp_path / "second", 2)
    other = bring(ask, *contents(second)).json()
    body = {"adapters": [brought["id"], other["id"]], "name": "both"}
    made = ask("POST", "/api/adapters/combine", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["name"] == "both"
    base = load_base(tiny)
    folder = place / "data" / "adapters" / made.json()["job"]
    weights = []
    for folders in ([adapter, second], [folder]):
        adapter_set = load_all(base, folders)
        assert adapter_set.unet
        weights.append({n: x.adapted_weight() for n, x in adapter_set.unet.layers.items()})
        adapter_set.detach()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-4, rtol=1e-4)
    refused = ask("POST", "/api/adapters/combine", json={**body, "blend": 7})
    assert refused.status_code == 422


def test_blended_on_the_command_line(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    words = ["compose", "--adapters", str(adapter), str(adapter), "--blend", "0.3"]
    words += ["--output", str(tmp_path / "new"), "--pretrained_model_name_or_path", str(tiny)]
    assert main(words) == 0
    base = load_base(tiny)
    first, second = _both(base, adapter, tmp_path / "new")
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, atol=1e-4, rtol=1e-4)
    assert main(words) == 2, "an existing folder was overwritten"


def _both(base: Any, *folders: Path) -> list[dict[str, torch.Tensor]]:
    found = []
    for folder in folders:
        one = orthodiff.load(base.denoiser, folder)
        found.append({name: layer.adapted_weight() for name, layer in one.layers.items()})
        one.detach()
    return found


def test_the_rotation_of_every_layer(ask: Client, brought: dict[str, Any], tiny: Path) -> None:
    told = ask("GET", f"/api/adapters/{brought['id']}/rotation").json()
    of_job = ask("GET", f"/api/jobs/{brought['job']}/rotation").json()
    assert told == of_job
    layers = [one["layer"] for one in told["layers"]]
    assert layers[0].startswith("down_blocks")
    assert layers[-1].startswith("up_blocks")
    assert all(0 < one["typical"] <= one["largest"] <= 180 for one in told["layers"])


def test_the_whole_model_is_exported(ask: Client, brought: dict[str, Any], tmp_path: Path) -> None:
    body = {"format": "merged"}
    made = ask("POST", f"/api/adapters/{brought['id']}/export", json=body)
    assert made.status_code == 200, made.text
    with zipfile.ZipFile(io.BytesIO(ask("GET", f"/{made.json()['url']}").content)) as pack:
        pack.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert load_base(folder).denoiser is not None


def test_an_exported_folder_can_be_brought_again(ask: Client, brought: dict[str, Any]) -> None:
    made = ask("POST", f"/api/adapters/{brought['id']}/export", json={"format": "adapter"}).json()
    packed = ask("GET", f"/{made['url']}").content
    again = bring(ask, (made["name"], packed), user="bob")
    assert again.status_code == 201, again.text
    assert again.json()["size"] == brought["size"]


def test_a_grid_over_checkpoints_and_strengths(ask: Client, brought: dict[str, Any]) -> None:
    config = {
        "adapters": [{"id": brought["id"]}], "prompts": ["a cat"], "num_images": 1,
        "num_inference_steps": 1, "strengths": [0, 1], "checkpoints": ["recommended", "last"],
    }  # fmt: skip
    made = ask("POST", "/api/generate", json={"config": config}).json()
    assert follow(ask, made["id"])["status"] == "succeeded"
    images = ask("GET", f"/api/jobs/{made['id']}/images").json()
    assert [(one["label"], one["column"]) for one in images] == [
        ("Recommended", "Strength 0"), ("Recommended", "Strength 1"),
        ("Last", "Strength 0"), ("Last", "Strength 1"),
    ]  # fmt: skip
    for wrong, told in (
        ({"combine": "blend"}, "lies between two"),
        ({"checkpoints": ["77"]}, "no checkpoint 77"),
        ({"checkpoints": ["../x"]}, "match pattern"),
    ):
        answer = ask("POST", "/api/generate", json={"config": {**config, **wrong}})
        assert told in answer.json()["error"]


def test_adapters_by_themselves_and_blended(ask: Client, brought: dict[str, Any]) -> None:
    use = {"id": brought["id"]}
    config = {
        "adapters": [use, {**use, "strength": 0}], "prompts": ["a cat"], "num_images": 1,
        "num_inference_steps": 1,
    }  # fmt: skip
    pixels = {}
    for combine in ("each", "blend"):
        values = {**config, "combine": combine, "blend": 0.0}
        made = ask("POST", "/api/generate", json={"config": values}).json()
        assert follow(ask, made["id"])["status"] == "succeeded"
        images = ask("GET", f"/api/jobs/{made['id']}/images").json()
        pixels[combine] = [
            np.asarray(Image.open(io.BytesIO(ask("GET", f"/{one['url']}").content))).astype(int)
            for one in images
        ]
    assert len(pixels["each"]) == 2
    assert abs(pixels["blend"][0] - pixels["each"][0]).max() <= 1, "a share of 0 is the first"
    assert (pixels["each"][0] != pixels["each"][1]).any()


PROMPTS = """prompt,seed,steps,adapter
a red cat,3,1,
"a {blue|green} cat",4,1,
,5,1,
a cat,six,1,
a cat,7,1,/etc/passwd
"""


def test_a_prompt_file_becomes_a_batch_and_bad_rows_are_named(ask: Client) -> None:
    read = ask("POST", "/api/prompts", files=[("file", ("mine.csv", PROMPTS.encode()))])
    assert read.status_code == 200, read.text
    told = read.json()
    assert [row["prompt"] for row in told["rows"]] == ["a red cat", "a {blue|green} cat"]
    assert told["images"] == 3
    problems = " ".join(told["problems"])
    for words in ("line 4", "prompt", "line 5", "line 6", "`adapter` cannot be set"):
        assert words in problems
    assert "/tmp" not in problems
    config = {"rows": told["rows"], "lists": told["lists"], "num_inference_steps": 2}
    made = ask("POST", "/api/jobs", json={"kind": "batch", "config": config}).json()
    assert follow(ask, made["id"])["status"] == "succeeded"
    images = ask("GET", f"/api/jobs/{made['id']}/images").json()
    assert [(one["prompt"], one["seed"]) for one in images] == [
        ("a red cat", 3), ("a blue cat", 4), ("a green cat", 4),
    ]  # fmt: skip
    for rows in ([{"prompt": "a", "init_image": "/etc/passwd"}], [{"prompt": "a __x__"}]):
        answer = ask("POST", "/api/jobs", json={"kind": "batch", "config": {"rows": rows}})
        assert (answer.status_code, answer.json()["field"]) == (422, "rows")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("mine.exe", b"a cat", "no prompt file"),
        ("mine.txt", b"# nothing\n", "holds no prompts"),
        ("mine.jsonl", b"{]\n", "holds no prompts"),
        ("mine.txt", b"a" * (2 << 20), "larger than 1 MB"),
        ("mine.yaml", b"rows: [{prompt: [[a]]}]", "must be a text"),
    ],
)
def test_prompt_files_that_cannot_be_used(
    ask: Client, name: str, content: bytes, told: str
) -> None:
    answer = ask("POST", "/api/prompts", files=[("file", (name, content))])
    assert answer.status_code in (413, 422)
    assert told in answer.json()["error"] or answer.status_code == 413


def test_what_a_training_sees_is_cut_as_it_cuts(ask: Client) -> None:
    sheet = Image.new("RGBA", (96, 64), (255, 0, 0, 255))
    sheet.paste((0, 255, 0, 255), (16, 0, 80, 64))
    sheet.paste((0, 0, 255, 0), (40, 24, 56, 40))
    packed = io.BytesIO()
    sheet.save(packed, "PNG")
    subject = upload(ask, packed.getvalue()).json()
    place = f"/api/subjects/{subject['id']}/seen/{subject['photos'][0]['file']}"

    def seen(**query: str) -> np.ndarray:
        answer = ask("GET", place, params={"resolution": "64", **query})
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)

    whole, masked = seen(), seen(alpha_mask="true")
    assert whole.shape == (64, 64, 3), "the wide photo is not cut to its middle"
    assert (whole[8, :, 1] > 180).all(), "something but the middle is seen"
    assert whole[32, 32].min() > 180, "transparent is not shown on white"
    assert masked[32, 32].max() < 90, "what is not learned is not dark"
    assert ask("GET", place, user="bob").status_code == 422


@pytest.mark.parametrize("ending", ["JPEG", "WEBP"])
def test_a_recipe_is_read_of_an_image_in_another_format(ask: Client, ending: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = '{"prompt": "a red cat", "seed": 7}'
    packed = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(packed, ending, exif=exif.tobytes())
    assert upload(ask, packed.getvalue()).json()["recipe"] == {"prompt": "a red cat", "seed": 7}

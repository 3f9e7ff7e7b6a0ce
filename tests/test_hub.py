"""Bases from the hub, and runs uploaded to it, against a hub on this computer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.fake_hub import FakeHub, serving
from tests.runs import ROOT, arguments, make_images

NOBODY = "http://127.0.0.1:9"
"""Nothing listens there."""
SESSION = """
import contextlib, io, json, sys, time
from orthodiff.training.cli.main import main
for words in json.load(sys.stdin):
    told, begun = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = main(words)
    print(json.dumps([code, told.getvalue(), time.monotonic() - begun]))
"""


@dataclass(frozen=True)
class End:
    """How a command line ended, what it said, and in how many seconds."""

    code: int
    told: str
    seconds: float


@dataclass(frozen=True)
class Session:
    """Command lines in one process, which imports everything once, and what else it said."""

    ends: dict[str, End]
    noise: str
    folder: Path


def session(folder: Path, endpoint: str, lines: dict[str, dict[str, object]]) -> Session:
    """Train by each of the `lines`, all into runs of their name, with the hub at `endpoint`."""
    default = {"max_train_steps": 1, "validation_samples": 0, "overwrite_output_dir": "true"}
    words = []
    for name, flags in lines.items():
        given = {**default, **flags}
        base = Path(str(given.pop("base", "me/tiny")))
        line = arguments(base, folder / "pictures", folder / name, **given)
        if "dataset_name" in flags:
            place = line.index("--instance_data_dir")
            del line[place : place + 2]
        words.append(line)
    make_images(folder / "pictures")
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_mine"}
    own |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        cwd=ROOT,
        env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
        input=json.dumps(words),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ends = (End(*json.loads(line)) for line in done.stdout.splitlines())
    return Session(dict(zip(lines, ends, strict=True)), done.stderr, folder)


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in the hub's usual layout."""
    folder = tmp_path_factory.mktemp("dogs")
    make_images(folder / "train", count=3)
    rows = [{"file_name": f"{number}.png", "text": f"a dog, {number}"} for number in range(3)]
    (folder / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def hub(tiny: Path, dogs: Path) -> Iterator[FakeHub]:
    folders = {"me/tiny": tiny, "me/gated": tiny, "datasets/me/dogs": dogs}
    with serving(FakeHub(folders, gated=("me/gated",))) as hub:
        yield hub


@pytest.fixture(scope="module")
def reached(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Session:
    lines: dict[str, dict[str, object]] = {
        "whole": {"push_to_hub": "true", "hub_model_id": "dog", "validation_prompt": "a dog"},
        "gated": {"base": "me/gated"},
        "unknown": {"base": "me/none"},
        "scorer": {"scorer": "me/none", "validation_prompt": "a dog"},
        "tokenizer": {"tokenizer_name": "me/none"},
        "streamed": {"dataset_name": "me/dogs", "caption_column": "text", "streaming": "true"},
        "dataset": {"dataset_name": "me/dogs", "caption_column": "text"},
        "no dataset": {"dataset_name": "me/none"},
    }
    return session(tmp_path_factory.mktemp("hub"), hub.url, lines)


@pytest.fixture(scope="module")
def unreached(reached: Session) -> Session:
    """The same computer later, without a connection."""
    lines: dict[str, dict[str, object]] = {
        "whole": {},
        "never seen": {"base": "me/other"},
        "dataset": {"dataset_name": "me/dogs", "caption_column": "text"},
        "other dataset": {"dataset_name": "me/cats"},
        "upload": {"push_to_hub": "true"},
    }
    return session(reached.folder, NOBODY, lines)


def test_a_base_is_downloaded_and_a_run_uploaded_without_what_is_kept_here(
    hub: FakeHub, reached: Session
) -> None:
    end = reached.ends["whole"]
    assert end.code == 0, end.told
    assert "uploaded to me/dog" in end.told
    assert {"adapter_config.json", "adapter_model.safetensors", "config.yaml"} <= set(hub.uploaded)
    public = {"adapter_config.json", "adapter_model.safetensors", "config.yaml", "README.md"}
    assert {path.partition("/")[0] for path in hub.uploaded} <= {
        *public,
        "samples",
        ".gitattributes",
    }
    assert b"hf_mine" not in b"".join(hub.uploaded.values())


def test_the_page_of_an_upload_says_how_it_was_made(hub: FakeHub, reached: Session) -> None:
    card = ModelCard(hub.uploaded["README.md"].decode())
    assert card.data.base_model == "me/tiny"
    assert {"orthodiff", "hra"} <= set(card.data.tags)
    assert "# dog" in card.text
    assert "learning_rate: " in card.text
    assert str(reached.folder) not in card.content
    assert "(samples/step-000001/00.png)" in card.text
    assert "samples/step-000001/00.png" in hub.uploaded


def test_what_was_downloaded_serves_without_the_hub(unreached: Session) -> None:
    end = unreached.ends["whole"]
    assert end.code == 0, end.told


def test_a_dataset_is_downloaded_and_kept(reached: Session, unreached: Session) -> None:
    first, again = (session.ends["dataset"] for session in (reached, unreached))
    assert (first.code, again.code) == (0, 0), first.told + again.told
    losses = [re.findall(r"loss [\d.]+", end.told) for end in (first, again)]
    assert losses[0] == losses[1] != []


def test_a_dataset_that_is_streamed_gives_the_same_run(reached: Session) -> None:
    streamed, whole = reached.ends["streamed"], reached.ends["dataset"]
    assert streamed.code == 0, streamed.told
    losses = [re.findall(r"loss [\d.]+", end.told) for end in (streamed, whole)]
    assert losses[0] == losses[1] != []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gated", "The base model `me/gated` is not on this computer, and it is gated"),
        ("unknown", "and the hub shows none of this name"),
        ("scorer", "The scorer `me/none` cannot be loaded"),
        ("tokenizer", "`tokenizer_name` is `me/none`"),
        ("no dataset", "The dataset `me/none` cannot be read: it is not here, and the hub shows"),
    ],
)
def test_what_the_hub_does_not_give_is_one_sentence(reached: Session, name: str, told: str) -> None:
    end = reached.ends[name]
    assert end.code == 2
    assert told in end.told
    assert end.told.count("error: ") == end.told.count("\n") == 1
    assert not (reached.folder / name).exists()


@pytest.mark.parametrize("name", ["never seen", "other dataset", "upload"])
def test_nobody_waits_for_a_hub_that_cannot_be_reached(unreached: Session, name: str) -> None:
    end = unreached.ends[name]
    assert end.code == 2
    assert "the hub" in end.told
    assert end.told.count("error: ") == end.told.count("\n") == 1
    assert "Retrying" not in unreached.noise
    assert not (unreached.folder / name).exists()

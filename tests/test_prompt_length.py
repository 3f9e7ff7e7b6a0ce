"""Prompts longer than a text encoder: what is cut is said, and chunks read all of it."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from orthodiff.cli.main import main
from orthodiff.errors import UserError
from orthodiff.models import load_base
from orthodiff.training.events.log import read_events
from tests.runs import make_images, train

SHORT = "a dog"
LONG = f"{SHORT} {'x' * 40} red"
OTHER = f"{SHORT} {'x' * 40} tan"
"""The tiny bases' tokenizers make a token of every letter, and read 30."""


@pytest.fixture(params=["sd", "xl"])
def base(request, tiny, tiny_xl):
    return load_base(str(tiny if request.param == "sd" else tiny_xl))


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("orthodiff")]


def test_what_is_cut_is_said_once(base, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        first, second = base.embed(LONG), base.embed(OTHER)
        base.prompts.clear()
        base.embed(LONG)
        base.embed(SHORT)
    assert torch.equal(first.hidden, second.hidden)
    said = warnings(caplog)
    assert len(said) == 2
    assert "has 47 tokens, but 30 are read" in said[0]
    assert "red” is cut off" in said[0]
    assert "--max_prompt_tokens 60" in said[0]


def test_chunks_read_the_end(base, caplog) -> None:
    short, cut = base.embed(SHORT), base.embed(LONG)
    caplog.clear()
    base.set_max_prompt_tokens(60)
    first, second = base.embed(LONG), base.embed(OTHER)
    assert not warnings(caplog)
    assert first.hidden.shape[1] == 64
    assert torch.allclose(first.hidden[:, :32], cut.hidden, atol=1e-6)
    assert torch.allclose(first.hidden[:, :32], second.hidden[:, :32], atol=1e-6)
    assert (first.hidden[:, 32:] - second.hidden[:, 32:]).abs().max() > 1e-3
    padded = base.embed(SHORT)
    assert torch.allclose(padded.hidden[:, :32], short.hidden, atol=1e-6)
    assert torch.allclose(padded.hidden[:, 32:], base.embed("").hidden[:, :32], atol=1e-6)
    if first.pooled is not None:
        assert cut.pooled is not None
        assert torch.allclose(first.pooled, cut.pooled, atol=1e-6)


def test_a_second_chunk_is_what_its_words_alone_would_be(base) -> None:
    base.set_max_prompt_tokens(60)
    tail = base.texts[0].tokenizer.decode(base.texts[0].token_ids(LONG)[30:])
    together = base.embed(LONG).hidden[:, 32:]
    base.set_max_prompt_tokens(30)
    assert torch.allclose(together, base.embed(tail).hidden, atol=1e-5)


@pytest.mark.parametrize("most", [0, 241])
def test_so_many_tokens_cannot_be_read(base, most: int) -> None:
    with pytest.raises(UserError, match=f"`max_prompt_tokens` is {most}, but it must be from 1"):
        base.set_max_prompt_tokens(most)


def test_generate_reads_long_prompts(tiny: Path, tmp_path: Path) -> None:
    def image(prompt: str, *flags: str) -> bytes:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        words = ["--prompt", prompt, "--output_dir", str(out), *flags]
        assert main(["generate", "--pretrained_model_name_or_path", str(tiny), *words]) == 0
        return Image.open(out / "00.png").tobytes()

    assert image(LONG) == image(OTHER)
    longer = ("--max_prompt_tokens", "60")
    assert image(LONG, *longer) != image(OTHER, *longer)


def test_training_reads_long_captions(tiny: Path, tmp_path: Path, capsys) -> None:
    photos = make_images(tmp_path / "photos", count=1)
    flags = {"max_train_steps": 1, "instance_prompt": LONG}
    said = []
    for name, more in {"cut": {}, "cached": {}, "whole": {"max_prompt_tokens": 60}}.items():
        assert train(tiny, photos, tmp_path / name, **flags, **more) == 0
        said.append("red” is cut" in capsys.readouterr().err)
    losses = [
        [event.get("loss") for event in read_events(tmp_path / name / "events.jsonl")]
        for name in ("cut", "cached", "whole")
    ]
    assert said == [True, True, False]
    assert losses[0] == losses[1] != losses[2]

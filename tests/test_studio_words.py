"""The page in English and German: every text that the code says is translated, and no other."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from orthodiff.studio.html import elements
from orthodiff.studio.page import build
from orthodiff.studio.services.measure import SHOWN
from orthodiff.studio.services.photos import read_examples
from orthodiff.studio.words import GERMAN, SAID, WORDS, say
from tests.runs import ROOT

STUDIO = Path(elements.__file__).parents[1]
TEXT = r'"((?:[^"\\]|\\.)*)"'
CALLS = rf"\b[tw]\(\s*{TEXT}|\bcount\([^\"]*?{TEXT},\s*{TEXT}"


def said_in_scripts() -> Iterator[str]:
    for path in sorted((STUDIO / "static").glob("*.js")):
        for found in re.finditer(CALLS, path.read_text("utf-8")):
            yield from (text.replace('\\"', '"') for text in found.groups() if text)
    for path in sorted(STUDIO.rglob("*.py")):
        yield from re.findall(r"<od-t>([^<{]+)</od-t>", path.read_text("utf-8"))


PLANNED = (
    "What Start will do", "Measured on its first steps", "Time", "Steps", "Batch", "Learning rate",
    "Resolution (pixels)", "Memory", "Memory, measured here",
)  # fmt: skip
"""What the card beside Start says, once there is something to say."""


@pytest.fixture(scope="module")
def said() -> set[str]:
    """What the page asks for while it is built, which takes no more of a studio than this."""
    SAID.clear()
    examples = read_examples(ROOT / "assets" / "subjects")
    studio: Any = SimpleNamespace(
        bases=("pocket",), examples=examples, base_choices=lambda: [("pocket", "pocket")]
    )

    async def make() -> None:
        build(studio)

    asyncio.run(make())
    facts = (*SHOWN.values(), *PLANNED)
    return {text for text in {*SAID, *said_in_scripts(), elements.PURPOSE, *facts} if text}


def test_every_text_has_a_translation_and_every_translation_a_text(said: set[str]) -> None:
    assert sorted(said - set(GERMAN)) == []
    assert sorted(set(GERMAN) - said - sentences()) == []


def sentences() -> set[str]:
    """What services say: they know no language, the page translates what it knows."""
    trees = [ast.parse(path.read_text("utf-8")) for path in STUDIO.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_a_translation_keeps_the_places_of_values() -> None:
    for english, german in GERMAN.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", german))
        assert german.strip()


def test_texts_reach_gradio_by_their_keys() -> None:
    key = say("Start training")
    assert isinstance(key, gr.i18n.I18nData)
    assert WORDS.translations["de"][key.key] == GERMAN["Start training"]
    assert WORDS.translations["en"][key.key] == "Start training"
    assert say("no such text") == "no such text"
    assert all("}" not in key for key in WORDS.translations["en"])

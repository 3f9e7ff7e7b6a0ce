"""The page's words in the reader's language, chosen by the browser.

A text is its own key: code says what stands on the page in English, and `static/de.json` holds the
German. The parts that are no Gradio read the same file (`static/words.js`).
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

GERMAN: dict[str, str] = json.loads(
    (Path(__file__).parent / "static" / "de.json").read_text("utf-8")
)
SAID: set[str] = set()
"""The texts that were asked for, so that a test can see what is not translated."""


def _key(text: str) -> str:
    """Gradio finds the end of a key by its first brace."""
    return text.replace("{", "⟨").replace("}", "⟩")


WORDS = gr.I18n(
    en={_key(text): text for text in GERMAN},
    de={_key(text): german for text, german in GERMAN.items()},
)


def say(text: str) -> I18nData | str:
    """A text for a label, a hint, a button: translated where there is a translation."""
    SAID.add(text)
    return WORDS(_key(text)) if text in GERMAN else text

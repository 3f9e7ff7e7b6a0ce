"""The page's own words, translated in the browser by its language."""

from __future__ import annotations

import gradio as gr

ENGLISH = {
    "train": "Train",
    "runs": "Runs",
    "generate": "Generate",
    "control": "Control",
    "library": "Library",
    "batch": "Batch",
}
GERMAN = {
    "train": "Trainieren",
    "runs": "Läufe",
    "generate": "Erzeugen",
    "control": "Steuern",
    "library": "Bibliothek",
    "batch": "Stapel",
}
WORDS = gr.I18n(en=ENGLISH, de=GERMAN)

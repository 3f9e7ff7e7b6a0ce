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
    "start_training": "Start training",
    "measure": "Measure time and memory first",
    "make_images": "Generate",
    "start_batch": "Start batch",
    "run_name": "Name of the run",
    "chosen_for_you": "chosen for you",
    "photos": "Photos",
    "example": "Example subject",
}
GERMAN = {
    "train": "Trainieren",
    "runs": "Läufe",
    "generate": "Erzeugen",
    "control": "Steuern",
    "library": "Bibliothek",
    "batch": "Stapel",
    "start_training": "Training starten",
    "measure": "Zeit und Speicher vorher messen",
    "make_images": "Erzeugen",
    "start_batch": "Stapel starten",
    "run_name": "Name des Laufs",
    "chosen_for_you": "wird für Sie gewählt",
    "photos": "Fotos",
    "example": "Beispiel",
}
WORDS = gr.I18n(en=ENGLISH, de=GERMAN)

"""The page: a header and one tab per file of `tabs`."""

from __future__ import annotations

import gradio as gr

from .html import elements as html
from .state import Studio
from .tabs.batch import BatchTab
from .tabs.control import ControlTab
from .tabs.generate import GenerateTab
from .tabs.library import LibraryTab
from .tabs.runs import RunsTab
from .tabs.train import TrainTab
from .words import say

TITLE = "orthodiff studio"
TITLES = {
    "train": "Train", "runs": "Runs", "generate": "Generate", "control": "Control",
    "library": "Library", "batch": "Batch",
}  # fmt: skip


def build(studio: Studio) -> gr.Blocks:
    """The whole page, not yet served."""
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        gr.HTML(html.header(), padding=False)
        with gr.Tabs():
            with _tab("train"):
                train = TrainTab(studio)
            with _tab("runs"):
                RunsTab()
            with _tab("generate"):
                GenerateTab(studio)
            with _tab("control"):
                ControlTab(studio)
            with _tab("library"):
                LibraryTab()
            with _tab("batch"):
                BatchTab(studio)
        page.load(**train.planning)
    page.queue(max_size=64)
    return page


def _tab(name: str) -> gr.Tab:
    return gr.Tab(say(TITLES[name]), id=name, elem_id=f"tab-{name}")

"""The page: a header and one tab per file of `tabs`."""

from __future__ import annotations

import gradio as gr

from .html import elements as html
from .state import Studio
from .tabs.batch import Batch
from .tabs.control import Control
from .tabs.generate import Generate
from .tabs.library import Library
from .tabs.runs import RunsTab
from .tabs.train import Train
from .words import WORDS

TITLE = "orthodiff studio"


def build(studio: Studio) -> gr.Blocks:
    """The whole page, not yet served."""
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        gr.HTML(html.header(), padding=False)
        with gr.Tabs():
            with _tab("train"):
                train = Train(studio)
            with _tab("runs"):
                RunsTab()
            with _tab("generate"):
                Generate(studio)
            with _tab("control"):
                Control(studio)
            with _tab("library"):
                Library()
            with _tab("batch"):
                Batch(studio)
        page.load(**train.planning)
    page.queue(max_size=64)
    return page


def _tab(name: str) -> gr.Tab:
    return gr.Tab(WORDS(name), id=name, elem_id=f"tab-{name}")

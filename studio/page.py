"""The page: a header and one tab per file of `pages`."""

from __future__ import annotations

import gradio as gr

from .html import elements as cards
from .state import Studio
from .tabs.control import Control
from .tabs.generate import Generate
from .tabs.train import Personalise

TITLE = "orthodiff studio"
EVERY = 1.0
"""Seconds between two looks at the runs folder."""


def build(studio: Studio) -> gr.Blocks:
    """The whole page, not yet served."""
    with gr.Blocks(
        title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)
    ) as page:
        gr.HTML(cards.header(), padding=False)
        with gr.Tabs() as tabs:
            with gr.Tab("Personalise", id="personalise"):
                personalise = Personalise(studio)
            with gr.Tab("Generate", id="generate"):
                generate = Generate(studio)
            with gr.Tab("Control", id="control"):
                control = Control(studio)
        timer = gr.Timer(EVERY)
        for refreshing in (personalise.runs.refreshing, generate.refreshing, control.refreshing):
            gr.on([page.load, timer.tick], **refreshing)
        run = personalise.runs.run
        personalise.runs.use.click(
            lambda name: gr.Tabs(selected="control" if name in studio.controls() else "generate"),
            run,
            tabs,
            api_visibility="private",
        ).then(
            generate.choose, [run, generate.before], generate.chosen, api_visibility="private"
        ).then(
            control.choose,
            [run, control.subject, control.before],
            control.chosen,
            api_visibility="private",
        )
    return page

"""The page: a header and one tab per file of `pages`."""

from __future__ import annotations

import gradio as gr

from studio import cards
from studio.pages.generate import Generate
from studio.pages.personalise import Personalise
from studio.studio import Studio

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
        timer = gr.Timer(EVERY)
        gr.on([page.load, timer.tick], **personalise.runs.refreshing)
        gr.on([page.load, timer.tick], **generate.refreshing)
        personalise.runs.use.click(_open_generate, None, tabs, api_visibility="private").then(
            generate.choose,
            [personalise.runs.run, generate.before],
            generate.chosen,
            api_visibility="private",
        )
    return page


def _open_generate() -> gr.Tabs:
    return gr.Tabs(selected="generate")

"""The column in which pictures appear: how it went, the pictures, and all of them to download."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import gradio as gr

from orthodiff.cli.generate import GenerateOptions
from orthodiff.errors import UserError

from ..html import elements as cards
from ..html import grids
from ..services.sampler import Painted, Painter
from ..state import shown


class Result:
    """The components; `outputs` is what `paint` gives values for."""

    def __init__(self, painter: Painter, *, prefix: str, message: gr.HTML, empty: str) -> None:
        self.painter = painter
        self.status = gr.HTML(empty, padding=False, elem_id=f"{prefix}-status")
        self.pictures = gr.HTML(padding=False, elem_id=f"{prefix}-pictures")
        self.archive = gr.DownloadButton(
            "Download all, with recipes", visible=False, elem_id=f"{prefix}-download"
        )
        self.outputs = [message, self.status, self.pictures, self.archive]

    def paint(
        self, ask: Callable[[], GenerateOptions], *, compare: bool, progress: gr.Progress
    ) -> list[Any]:
        """Make the pictures that are asked for, or say in one sentence why not."""
        try:
            options = ask()
            painted = self._paint(options, compare=compare, progress=progress)
        except UserError as error:
            return [cards.problem(str(error)), *[gr.skip()] * 3]
        told = f"{len(painted.adapted)} pictures in {cards.duration(painted.seconds)}"
        return [
            "",
            cards.note(f"{told}, kept in {options.output_dir}"),
            grids.comparison(painted),
            gr.DownloadButton(value=shown(painted.archive), visible=True),
        ]

    def _paint(self, options: GenerateOptions, *, compare: bool, progress: gr.Progress) -> Painted:
        """Paint into a folder of its own, of which nothing is left if it fails."""

        def tell(share: float, text: str) -> None:
            progress(share, desc=text)

        try:
            return self.painter.paint(options, compare=compare, on_progress=tell)
        except BaseException:
            shutil.rmtree(options.output_dir, ignore_errors=True)
            raise

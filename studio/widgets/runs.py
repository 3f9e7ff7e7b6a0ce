"""The column that watches runs: it shows what their folders say, however they were started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from orthodiff.errors import UserError

from ..html import elements as cards
from ..html import grids
from ..services.jobs.local import can_resume
from ..services.jobs.status import Status, read_status
from ..state import Studio


class Runs:
    """A list of runs, the card of the chosen one, its samples, and what can be done with it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        gr.HTML('<h2 class="step">Runs</h2>', padding=False)
        self.run = gr.Dropdown([], show_label=False, container=False, visible=False, elem_id="run")
        self.card = gr.HTML(cards.EMPTY, padding=False, elem_id="card")
        with gr.Row():
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            self.resume = gr.Button("Continue", visible=False, elem_id="resume")
            self.use = gr.Button(
                "Make pictures with it", variant="primary", visible=False, elem_id="use"
            )
        self.message = gr.HTML(padding=False)
        self.samples = gr.HTML(padding=False, elem_id="samples")
        self.before = gr.State({})
        self._connect()

    def _connect(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        view = [self.run, self.card, self.samples, self.stop, self.resume, self.use, self.before]
        self.refreshing: dict[str, Any] = {
            "fn": self.refresh,
            "inputs": [self.run, self.before],
            "outputs": view,
            "concurrency_limit": None,
            **private,
        }
        self.run.input(**self.refreshing)
        for button, action in ((self.stop, self._stop), (self.resume, self._resume)):
            button.click(action, self.run, self.message, **private).then(**self.refreshing)

    def offer(self, chosen: str | None) -> gr.Dropdown:
        """The list of runs, with this one chosen."""
        names = self.studio.store.names()
        return gr.Dropdown(choices=names, value=chosen, visible=bool(names))

    def refresh(self, chosen: str | None, before: Mapping[str, Any]) -> list[Any]:
        """What the runs folder shows now; what has not changed is left alone.

        A run that has appeared since is chosen: this may be on its way while one is started, and
        must not choose the one before it again.
        """
        names = self.studio.store.names()
        _, known = before.get("run", (None, names))
        chosen = next((name for name in names if name not in known), chosen)
        if chosen not in names:
            chosen = self.studio.runner.active() or next(iter(names), None)
        status = read_status(self.studio.store.folder(chosen)) if chosen else None
        now = {"run": (chosen, names), **self._view(status)}
        show: dict[str, Callable[[Any], Any]] = {
            "run": lambda value: self.offer(chosen),
            "card": str,
            "samples": str,
            **dict.fromkeys(("stop", "resume", "use"), lambda value: gr.Button(visible=value)),
        }
        changed = {key for key, value in now.items() if before.get(key) != value}
        updates = [show[key](now[key]) if key in changed else gr.skip() for key in now]
        return [*updates, now if changed else gr.skip()]

    def _view(self, status: Status | None) -> dict[str, Any]:
        if status is None:
            nothing = dict.fromkeys(("stop", "resume", "use"), False)
            return {"card": cards.EMPTY, "samples": "", **nothing}
        folder = self.studio.store.folder(status.name)
        return {
            "card": cards.run_card(status),
            "samples": grids.samples(folder, status.samples),
            "stop": status.is_alive,
            "resume": can_resume(folder, status),
            "use": status.state == "finished",
        }

    def _stop(self, name: str | None) -> str:
        return _attempt(self.studio.runner.stop, name)

    def _resume(self, name: str | None) -> str:
        return _attempt(self.studio.runner.resume, name)


def _attempt(action: Callable[[str], None], name: str | None) -> str:
    """The message under the card: nothing, or why it could not be done."""
    try:
        action(name or "")
    except UserError as error:
        return cards.problem(str(error))
    return ""

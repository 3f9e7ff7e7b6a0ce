"""Tab 'Batch': many prompts with each adapter and each seed, as a job for the night."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.errors import UserError

from ..html import elements as html
from ..services.settings.batch import BatchJobSettings
from ..state import Studio
from ..widgets.fields import Form, sampler_field
from ..widgets.parts import adapter_picker, part, prompt_file, read_list, read_object
from ..words import say
from .train import OPEN_JOB

PREFIX = "batch"
FROM_FILE = ("rows", "lists")
PROMPTS = (
    "a photo of {trigger} {in the snow|on the beach|at night}\na {red|blue} {trigger} on a table"
)
Data = Mapping[Any, Any]


class BatchTab:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.form = Form(BatchJobSettings, PREFIX)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._form()
            with gr.Column(scale=6, min_width=320):
                gr.HTML(html.heading(0, "Batches"), padding=False)
                part("od-runs", elem_id="recent-batches", compact="6", kind="batch")
        self._connect()

    def _form(self) -> None:
        self.adapters = adapter_picker(
            elem_id=f"{PREFIX}-adapters", label="Adapters, each by itself", kind="subject", most=8,
            empty="There is no adapter yet. Until you train one, the base makes the images.",
        )  # fmt: skip
        self.form.add("prompts", value=PROMPTS, lines=8)
        with gr.Accordion(say("Prompts from a file"), open=False):
            self.file = prompt_file(elem_id=f"{PREFIX}-rows")
        self.form.add("negative_prompt")
        self.form.add_all(("num_images", "seed"))
        with gr.Accordion(say("Steps, guidance and sampler"), open=False):
            self.form.fields["sampler"] = sampler_field(PREFIX)
            self.form.add_all(("num_inference_steps", "guidance_scale"))
        self.name = gr.Textbox(
            label=say("Name of the batch"),
            placeholder=say("chosen for you"),
            elem_id=f"{PREFIX}-name",
        )
        self.button = gr.Button(
            say("Start batch"), variant="primary", size="lg", elem_id="batch-button"
        )
        self.message = gr.HTML(padding=False, elem_id="batch-message", elem_classes="form-message")
        self.started = gr.Textbox(visible="hidden", elem_id="started-batch")

    def _connect(self) -> None:
        private: dict[str, Any] = {
            "api_visibility": "private", "show_progress": "hidden", "queue": False,
        }  # fmt: skip
        inputs = {self.adapters, self.file, self.name, *self.form.fields.values()}
        self.button.click(self.start, inputs, [self.message, self.started], **private).then(
            None, self.started, js=OPEN_JOB, **private
        )

    def start(self, data: Data, request: gr.Request) -> tuple[str, str]:
        """Check and queue a batch; a message, and the job's id."""
        try:
            values = {**self.form.values(data), "adapters": read_list(data[self.adapters])}
            values |= {k: v for k, v in read_object(data[self.file]).items() if k in FROM_FILE}
            name = data[self.name] or ""
            owner = str(request.username)
            job = self.studio.submit(owner, "batch", values, subject=None, name=name)
        except UserError as error:
            return html.problem(error, prefix=PREFIX), ""
        return html.note(f"`{job.name}` is in the queue."), job.id

"""Tab 'Generate': prompts in; the base's and the adapter's pictures out, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.adapters.peft_format.read import read_metadata
from orthodiff.cli.generate import GenerateOptions
from orthodiff.errors import UserError
from orthodiff.settings import validate

from ..html import elements as cards
from ..services.training_request import in_contexts
from ..state import Studio
from ..widgets.forms import number
from ..widgets.result import Result
from ..widgets.sampling_form import SamplingForm

Data = Mapping[Any, Any]
EMPTY = (
    '<div class="card empty"><b>Pictures appear here</b><p>The base model above, your adapter '
    "below, from the same seeds: only the training makes the difference.</p></div>"
)


class Generate:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                self._form()
            with gr.Column(scale=7, min_width=420):
                self.result = Result(
                    studio.painter,
                    prefix="generate",
                    message=self.message,
                    empty=EMPTY,
                )
        self._connect()

    def _form(self) -> None:
        base = self.studio.bases[0]
        self.run = gr.Dropdown([], label="Run", info="A finished training", elem_id="generate-run")
        self.base = gr.Dropdown(self.studio.base_choices(), value=base, label="Base model")
        self.strength = gr.Slider(
            0,
            1.5,
            1,
            step=0.05,
            label="Strength",
            info="0: the base model. 1: as trained. Beyond: more of it",
            elem_id="strength",
        )
        self.sampling = SamplingForm(
            base,
            prefix="generate",
            hint="; name the subject as in training",
            example="a photo of sks dog in the snow",
        )
        self.compare = gr.Checkbox(True, label="Show the base model beside it")
        self.button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate-button")
        self.message = gr.HTML(padding=False, elem_id="generate-message")

    def _connect(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        sampling = self.sampling
        self.before = gr.State({"names": [], "run": None})
        self.chosen = [self.before, self.run, self.base, sampling.prompts, self.message]
        self.run.input(self.choose, [self.run, self.before], self.chosen, **private)
        self.base.input(sampling.advise, self.base, [sampling.steps, sampling.guidance], **private)
        self.refreshing = {
            "fn": self.refresh,
            "inputs": [self.run, self.before],
            "outputs": self.chosen,
            "concurrency_limit": None,
            **private,
        }
        self.button.click(
            self.generate,
            {self.run, self.base, self.strength, self.compare, *sampling.fields},
            self.result.outputs,
            api_visibility="private",
            show_progress_on=[self.result.status],
        )

    def refresh(self, chosen: str | None, before: Mapping[str, Any]) -> list[Any]:
        """Offer the runs that are finished by now; choose the newest where none is chosen."""
        names = self.studio.store.finished()
        if names == before["names"]:
            return [gr.skip()] * 5
        return self.choose(chosen if chosen in names else next(iter(names), None), before)

    def choose(self, name: str | None, before: Mapping[str, Any]) -> list[Any]:
        """A run that was not chosen before brings its base, and prompts that name its subject."""
        names = self.studio.store.finished()
        if name and name not in names:
            return [gr.skip()] * 5
        head = [{"names": names, "run": name}, gr.Dropdown(choices=names, value=name)]
        if name is None or name == before["run"]:
            return [*head, *[gr.skip()] * 3]
        try:
            recipe = read_metadata(self.studio.store.folder(name))
        except UserError as error:
            return [*head, gr.skip(), gr.skip(), cards.problem(str(error))]
        base, prompt = self.studio.base_of(recipe), recipe.get("instance_prompt", "")
        prompts = in_contexts(prompt) if prompt else gr.skip()
        told = cards.note(self.studio.foreign_base(recipe))
        return [*head, gr.Dropdown(value=base) if base else gr.skip(), prompts, told]

    def generate(self, data: Data, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        """Make the pictures; the message, the status line, the pictures and the download."""
        compare = bool(data[self.compare])
        return self.result.paint(lambda: self._options(data), compare=compare, progress=progress)

    def _options(self, data: Data) -> GenerateOptions:
        """The checked request.

        Raises:
            UserError: the first field that cannot be as it is.
        """
        if data[self.base] not in self.studio.bases:
            raise UserError("This base model is not offered here. Choose one from the list.")
        if not data[self.run]:
            raise UserError("There is no finished run to paint with yet. Train one first.")
        folder = self.studio.store.folder(data[self.run])
        values = {
            "pretrained_model_name_or_path": data[self.base],
            "adapter": [folder],
            "strength": number("Strength", data[self.strength], least=0, most=2),
            "output_dir": self.studio.new_folder(folder),
            **self.sampling.read(data),
        }
        return validate(GenerateOptions, values)

"""Tab 'Control': a picture, a map or a drawing in; pictures that follow its lines out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from orthodiff import control
from orthodiff.adapters.peft_format.read import read_metadata
from orthodiff.cli.generate import GenerateOptions
from orthodiff.errors import UserError

from ..html import elements as cards
from ..html import grids
from ..services.control_request import steered_options
from ..services.maps import NothingGivenError, UsedMap
from ..services.sampler import advice
from ..services.training_request import in_contexts
from ..state import Studio
from ..widgets.map_source import Source
from ..widgets.result import Result
from ..widgets.sampling_form import SamplingForm

Data = Mapping[Any, Any]
NOBODY = "Nobody in particular"
NONE_YET = (
    "There is no adapter that follows maps yet. Train one with `python -m training control`, into "
    "a folder beside the other runs whose name has small letters, digits, - and _ alone; it "
    "appears here when it has finished."
)
EMPTY = (
    '<div class="card empty"><b>Pictures appear here</b><p>The base model, which knows nothing of '
    "the map, above; below it the pictures that follow the map, and the map laid over them.</p>"
    "</div>"
)


class Control:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=360):
                self._map()
                self._wishes()
            with gr.Column(scale=6, min_width=380):
                self.result = Result(
                    studio.painter,
                    prefix="control",
                    message=self.message,
                    empty=EMPTY,
                )
        self._connect()

    def _map(self) -> None:
        gr.HTML(cards.heading(1, "The map", "what the pictures follow"), padding=False)
        self.control = gr.Dropdown(
            [], label="Adapter", info="A training that follows maps", elem_id="control-adapter"
        )
        self.source = Source(self.studio.examples)
        self.preview = gr.HTML(padding=False, elem_id="control-map")

    def _wishes(self) -> None:
        gr.HTML(cards.heading(2, "The pictures", "what they show"), padding=False)
        base = self.studio.bases[0]
        self.sampling = SamplingForm(
            base,
            prefix="control",
            hint="",
            example="a photo of a red mug",
            value=self._example_prompt(self.source.example.value),
        )
        with gr.Row():
            self.strength = gr.Slider(
                0,
                2,
                1,
                step=0.05,
                label="Control",
                info="0: the map does not count. 1: as trained",
                elem_id="control-strength",
            )
            self.subject = gr.Dropdown(
                [NOBODY],
                value=NOBODY,
                label="Subject",
                info="One of your trainings, placed by the map",
                elem_id="control-subject",
            )
        with gr.Accordion("Base and timing", open=False):
            self.base = gr.Dropdown(self.studio.base_choices(), value=base, label="Base model")
            with gr.Row():
                self.start = gr.Slider(
                    0, 1, 0, step=0.05, label="From", info="Share of the steps", elem_id="from"
                )
                self.end = gr.Slider(
                    0, 1, 1, step=0.05, label="To", info="Share of the steps", elem_id="to"
                )
        self.compare = gr.Checkbox(True, label="Show the base model beside it")
        self.button = gr.Button("Generate", variant="primary", size="lg", elem_id="control-button")
        self.message = gr.HTML(padding=False, elem_id="control-message")

    def _connect(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        source, sampling = self.source, self.sampling
        self.before = gr.State({"controls": None, "subjects": None, "control": None})
        self.chosen = [
            self.before, self.control, self.subject, self.base, *source.settings, self.message,
        ]  # fmt: skip
        self.refreshing = {
            "fn": self.refresh,
            "inputs": [self.control, self.subject, self.before],
            "outputs": self.chosen,
            "concurrency_limit": None,
            **private,
        }
        self.control.input(
            self.choose, [self.control, self.subject, self.before], self.chosen, **private
        )
        self.base.input(sampling.advise, self.base, [sampling.steps, sampling.guidance], **private)
        source.example.input(self._example_prompt, source.example, sampling.prompts, **private)
        self.subject.input(self._subject_prompt, self.subject, sampling.prompts, **private)
        gr.on(
            [self.control.change, self.base.change, *source.changes],
            self.look,
            {self.control, self.base, *source.fields},
            self.preview,
            trigger_mode="always_last",
            concurrency_limit=2,
            **private,
        )
        self.button.click(
            self.generate,
            {
                self.control, self.base, self.strength, self.subject, self.start, self.end,
                self.compare, *source.fields, *sampling.fields,
            },
            self.result.outputs,
            api_visibility="private",
            show_progress_on=[self.result.status],
        )  # fmt: skip

    def refresh(self, chosen: str | None, subject: str, before: Mapping[str, Any]) -> list[Any]:
        """Offer what is finished by now; choose the first adapter where none is chosen."""
        controls, subjects = self._at_hand()
        if (controls, subjects) == (before["controls"], before["subjects"]):
            return [gr.skip()] * len(self.chosen)
        name = chosen if chosen in controls else next(iter(controls), None)
        return self.choose(name, subject, before)

    def choose(self, name: str | None, subject: str, before: Mapping[str, Any]) -> list[Any]:
        """An adapter that was not chosen before brings its base and its thresholds."""
        controls, subjects = self._at_hand()
        if name and name not in controls:
            return [gr.skip()] * len(self.chosen)
        subject = subject if subject in subjects else NOBODY
        return [
            {"controls": controls, "subjects": subjects, "control": name},
            gr.Dropdown(choices=controls, value=name),
            gr.Dropdown(choices=[NOBODY, *subjects], value=subject),
            *self._brought_by(name, before["control"]),
        ]

    def _at_hand(self) -> tuple[list[str], list[str]]:
        """The control adapters and the subjects there are."""
        return list(self.studio.controls()), self.studio.store.finished()

    def _brought_by(self, name: str | None, before: str | None) -> list[Any]:
        """Base, thresholds and message for an adapter."""
        unchanged = [gr.skip()] * 4
        if name is None:
            return [*unchanged, cards.note(NONE_YET)]
        if name == before:
            return [*unchanged, gr.skip()]
        try:
            folder = self.studio.controls()[name]
            condition = control.read_config(folder)["condition"]
            recipe = control.read_metadata(folder)
        except UserError as error:
            return [*unchanged, cards.problem(str(error))]
        base = self.studio.base_of(recipe)
        told = cards.note(self.studio.foreign_base(recipe))
        return [base or gr.skip(), *self.source.settings_of(condition), told]

    def look(self, data: Data) -> str:
        """The maps as they will be used, or one sentence about why there are none."""
        if not data[self.control]:
            return ""
        try:
            return grids.used_maps(self._maps(data))
        except NothingGivenError as nothing:
            return cards.note(str(nothing))
        except UserError as error:
            return cards.problem(str(error))

    def generate(self, data: Data, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        """Make the pictures; the message, the status line, the pictures and the download."""
        compare = bool(data[self.compare])
        return self.result.paint(lambda: self._options(data), compare=compare, progress=progress)

    def _maps(self, data: Data) -> list[UsedMap]:
        """The maps in the size of the pictures, which is the one the base was made for.

        Raises:
            UserError: there is no adapter, no such base, or no map.
        """
        if data[self.base] not in self.studio.bases:
            raise UserError("This base model is not offered here. Choose one from the list.")
        condition = control.read_config(self._adapter(data))["condition"]
        side = advice(data[self.base]).resolution
        return self.source.used(data, condition, (side, side))

    def _adapter(self, data: Data) -> Path:
        controls = self.studio.controls()
        if data[self.control] not in controls:
            raise UserError(NONE_YET if not controls else "Choose an adapter from the list.")
        return controls[data[self.control]]

    def _options(self, data: Data) -> GenerateOptions:
        """The checked request; its maps are written where its pictures will be.

        Raises:
            UserError: the first field that cannot be as it is.
        """
        store, subject = self.studio.store, data[self.subject]
        subjects = [] if subject == NOBODY else [store.folder(subject or "")]
        return steered_options(
            self._maps(data),
            self.studio.new_folder(store.root),
            base=data[self.base],
            adapters=[self._adapter(data), *subjects],
            strength=data[self.strength],
            start=data[self.start],
            end=data[self.end],
            sampling=self.sampling.read(data),
        )

    def _example_prompt(self, name: str | None) -> str:
        """The kind of thing that an example shows, in another place."""
        example = self.studio.examples.get(name or "")
        return f"a photo of a {example.class_word} on the beach" if example else ""

    def _subject_prompt(self, name: str) -> Any:
        """The prompt that names a subject, in a few places."""
        try:
            recipe = read_metadata(self.studio.store.folder(name))
        except UserError:
            return gr.skip()
        prompt = recipe.get("instance_prompt", "")
        return in_contexts(prompt) if prompt else gr.skip()

"""Tab 'Train': a subject or a style on photos, a base and a preset; then a training is queued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr

from orthodiff import ADAPTERS
from orthodiff.errors import UserError

from ..html import elements as html
from ..services.estimate import estimate
from ..services.photos import ExampleSubject
from ..services.settings.base import read_settings
from ..services.settings.limits import check_base
from ..services.settings.presets import preset_family
from ..services.settings.subject import MEMORY, PRIOR, SAMPLES, STEPS, SubjectSettings
from ..state import Studio
from ..widgets.control_data import ControlData
from ..widgets.fields import Form, method_fields
from ..widgets.parts import part, upload_field
from ..words import say

EXAMPLE, OWN, PAIRS = "An example", "My own photos", "Control data"
PREFIX = "train"
CONTROL_PLAN = (
    "The steps and rates of the base's recipe, unless you set others. Measure how long that takes "
    "on this computer before you start."
)
DEMO = (
    "The pocket model is a demo that knows small rendered objects only: of real photos it learns "
    "blobs. For photos start the studio with a real model, for example "
    "--base stable-diffusion-v1-5/stable-diffusion-v1-5, and choose it under Base model."
)
HINT = "3 to 10 photos: the subject alone and whole, in different places, light and poses."
OPEN_JOB = "(id) => { if (id) window.studio.openJob(id); }"
SECTIONS = {
    STEPS: (("max_train_steps", "learning_rate"), ("train_batch_size", "seed")),
    SAMPLES: (("validation_prompts",), ("validation_steps",)),
    MEMORY: (("resolution",), ("mixed_precision",), ("gradient_checkpointing",)),
    PRIOR: (("with_prior_preservation",), ("num_class_images",)),
}
Data = Mapping[Any, Any]


class TrainTab:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.form = Form(SubjectSettings, PREFIX)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=320):
                self._subject()
                self._method()
            with gr.Column(scale=5, min_width=320, elem_classes="side"):
                self._start()
        self._connect()

    def _subject(self) -> None:
        examples = list(self.studio.examples.values())
        first = examples[0] if examples else None
        gr.HTML(html.heading(1, "Your subject", "one thing, or one style"), padding=False)
        self.source = gr.Radio(
            [(say(one), one) for one in (EXAMPLE, OWN, PAIRS)],
            value=EXAMPLE if first else OWN,
            label=say("Photos"),
            elem_id="source",
        )
        with gr.Group(visible=first is not None) as self.example_group:
            self.example = gr.Radio(
                [(say(example.name.replace("_", " ")), example.name) for example in examples],
                value=first.name if first else None,
                label=say("Example subject"),
                elem_id="example",
            )
            self.strip = gr.HTML(_strip(first), padding=False, elem_id="example-pictures")
        with gr.Column(visible=first is None) as self.own_group:
            self.demo_note = gr.HTML(self._demo_note(None), padding=False, elem_id="demo-note")
            self.photos = upload_field(
                elem_id=f"{PREFIX}-subject", label="Drop photos here, or choose files", hint=HINT,
                captions=True,
            )  # fmt: skip
        with gr.Column(visible=False) as self.pairs_group:
            self.pairs = ControlData(PREFIX)
        with gr.Column() as self.words_group:
            self._words(first.class_word if first else "dog")

    def _words(self, word: str) -> None:
        with gr.Row():
            self.form.add("class_word", placeholder=word, min_width=150)
            self.form.add("trigger", min_width=150)
        with gr.Accordion(say("Prompt, style and mask"), open=False):
            self.form.add("prompt", placeholder=f"a photo of sks {word}")
            self.form.add("style")
            self.form.add("alpha_mask")

    def _method(self) -> None:
        gr.HTML(html.heading(2, "How it is learned"), padding=False)
        with gr.Row():
            self.base = gr.Dropdown(
                self.studio.base_choices(),
                value=self.studio.bases[0],
                label=say("Base model"),
                info=say("What is taught"),
                elem_id=f"{PREFIX}-base",
                min_width=150,
            )
            self.form.fields["base"] = self.base
            self.form.add("preset", min_width=150)
        default = next(iter(ADAPTERS))
        choices = [(method.__name__, name) for name, method in ADAPTERS.items()]
        self.method = gr.Radio(
            choices,
            value=default,
            label=say("Method"),
            info=say(ADAPTERS[default].title),
            elem_id="method",
        )
        self.form.fields["method"] = self.method
        self.settings: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, gr.Column] = {}
        for name in ADAPTERS:
            with gr.Column(visible=name == default) as self.groups[name]:
                self.settings[name] = method_fields(name, name)
        for title, rows in SECTIONS.items():
            with gr.Accordion(say(title), open=False):
                for names in rows:
                    self.form.add_all(names)

    def _start(self) -> None:
        gr.HTML(html.heading(3, "Start"), padding=False)
        self.plan = gr.HTML(padding=False, elem_id="plan")
        self.measuring = gr.Button(
            say("Measure time and memory first"), size="sm", elem_id="measure"
        )
        self.name = gr.Textbox(
            label=say("Name of the run"),
            placeholder=say("chosen for you"),
            elem_id=f"{PREFIX}-name",
        )
        self.button = gr.Button(
            say("Start training"), variant="primary", size="lg", elem_id="start"
        )
        self.message = gr.HTML(padding=False, elem_id="start-message", elem_classes="form-message")
        self.started = gr.Textbox(visible="hidden", elem_id="started-job")
        gr.HTML(html.heading(0, "Newest runs"), padding=False)
        part("od-runs", elem_id="recent-runs", compact="6")

    def _connect(self) -> None:
        private: dict[str, Any] = {
            "api_visibility": "private", "show_progress": "hidden", "queue": False,
        }  # fmt: skip
        groups = [self.example_group, self.own_group, self.pairs_group, self.words_group]
        self.source.input(self._choose_source, self.source, groups, **private)
        words = [self.form.fields["class_word"], self.form.fields["prompt"]]
        self.example.input(self._choose_example, self.example, [self.strip, *words], **private)
        self.method.input(
            self._choose_method, self.method, [self.method, *self.groups.values()], **private
        )
        self.base.input(self._demo_note, self.base, self.demo_note, **private)
        shown = [self.form.fields[name] for name in ("preset", "max_train_steps", "learning_rate")]
        shown += [self.form.fields[name] for name in ("train_batch_size", "resolution")]
        self.planning = {
            "fn": self._plan,
            "inputs": self._inputs(),
            "outputs": self.plan,
            "trigger_mode": "always_last",
            **private,
        }
        changes = [one.change for one in (self.base, self.method, self.source, *shown)]
        gr.on(changes, **self.planning)
        measured = {**private, "show_progress": "full", "queue": True, "concurrency_limit": 1}
        self.measuring.click(self._measure, self._inputs(), self.plan, **measured)
        self.button.click(self.start, self._inputs(), [self.message, self.started], **private).then(
            None, self.started, js=OPEN_JOB, **private
        )

    def _inputs(self) -> set[Any]:
        of_methods = (field for fields in self.settings.values() for field in fields.values())
        return {
            self.source, self.example, self.photos, self.pairs.photos, self.pairs.kind, self.name,
            *self.form.fields.values(),
            *of_methods,
        }  # fmt: skip

    def start(self, data: Data, request: gr.Request) -> tuple[str, str]:
        """Derive and check everything, then queue it; a message, and the job's id."""
        try:
            job = self.studio.submit(
                str(request.username),
                self._kind(data),
                self._values(data),
                subject=self._subject_of(data),
                name=data[self.name] or "",
            )
        except UserError as error:
            return html.problem(error, prefix=PREFIX), ""
        return html.note(f"`{job.name}` is in the queue."), job.id

    def _measure(self, data: Data, request: gr.Request) -> str:
        """What `--plan` says about this training."""
        try:
            owner, subject = str(request.username), self._subject_of(data)
            lines = self.studio.measure_training(
                owner, self._values(data), subject=subject, kind=self._kind(data)
            )
        except UserError as error:
            return html.problem(error, prefix=PREFIX)
        return html.facts(lines, title="Measured on its first steps")

    def _subject_of(self, data: Data) -> str | None:
        if data[self.source] == PAIRS:
            return data[self.pairs.photos] or None
        return (data[self.photos] if data[self.source] == OWN else data[self.example]) or None

    def _kind(self, data: Data) -> Literal["dreambooth", "control"]:
        return "control" if data[self.source] == PAIRS else "dreambooth"

    def _values(self, data: Data) -> dict[str, Any]:
        """What is filled in, with the settings of the chosen method alone."""
        values = self.form.values(data)
        fields = self.settings.get(data[self.method] or "", {})
        values["method_settings"] = {name: data[one] for name, one in fields.items()}
        if self._kind(data) == "control":
            return self.pairs.values(values, data[self.pairs.kind])
        return values

    def _plan(self, data: Data) -> str:
        """What Start would do, from what this computer has shown."""
        if self._kind(data) == "control":
            return html.note(CONTROL_PLAN)
        try:
            settings = read_settings(SubjectSettings, self._values(data))
            base = check_base(settings.base, self.studio.bases)
            forecast = estimate(self.studio.jobs.store, settings, base)
        except UserError as error:
            return html.problem(error, prefix=PREFIX)
        time = (
            "not measured here yet" if forecast.seconds is None else html.duration(forecast.seconds)
        )
        return html.facts([("Time", time), *forecast.lines], title="What Start will do")

    def _demo_note(self, base: str | None) -> str:
        is_demo = preset_family(base or self.studio.bases[0]) == "demo"
        return html.warning(DEMO) if is_demo else ""

    def _choose_source(self, source: str) -> list[Any]:
        shown = (source == OWN, source == PAIRS, source != PAIRS)
        return [gr.Group(visible=source == EXAMPLE), *(gr.Column(visible=one) for one in shown)]

    def _choose_example(self, name: str) -> list[Any]:
        """Only hints change: what Start does never depends on whether they have arrived."""
        example = self.studio.examples[name]
        prompt = f"a photo of sks {example.class_word}"
        return [
            _strip(example),
            gr.Textbox(placeholder=example.class_word),
            gr.Textbox(placeholder=prompt),
        ]

    def _choose_method(self, method: str) -> list[Any]:
        rows = [gr.Column(visible=name == method) for name in ADAPTERS]
        return [gr.Radio(info=str(say(ADAPTERS[method].title))), *rows]


def _strip(example: ExampleSubject | None) -> str:
    return html.strip(example.name, example.images) if example else ""

"""Tab 'Personalise': a subject, a method, a few numbers; then a training starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from orthodiff import ADAPTERS
from orthodiff.errors import UserError
from orthodiff.training.options.method import default_learning_rate

from ..html import elements as cards
from ..html import grids
from ..services.photos import ExampleSubject, look_at_photos, open_photos
from ..services.sampler import advice
from ..services.training_request import (
    TrainForm,
    in_contexts,
    make_config,
    name_prompt,
)
from ..state import Studio
from ..widgets.forms import settings_fields
from ..widgets.runs import Runs

EXAMPLE, OWN = "An example", "My own photos"
PHOTO_ADVICE = (
    "Best: the subject alone and whole, in different places, light and poses. Up to 50 MB each."
)
Data = Mapping[Any, Any]


class Personalise:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=420):
                self._subject()
                self._method()
                self._training()
            with gr.Column(scale=5, min_width=380):
                self.runs = Runs(studio)
        self._connect()

    def _subject(self) -> None:
        examples = list(self.studio.examples.values())
        first = examples[0] if examples else None
        gr.HTML(cards.heading(1, "Your subject", "one thing, on 3 to 10 photos"), padding=False)
        self.source = gr.Radio(
            [EXAMPLE, OWN], value=EXAMPLE if first else OWN, show_label=False, elem_id="source"
        )
        with gr.Group(visible=first is not None) as self.example_group:
            self.example = gr.Radio(
                [(example.name.replace("_", " "), example.name) for example in examples],
                value=first.name if first else None,
                label="Example subject",
                elem_id="example",
            )
            self.example_pictures = gr.HTML(
                _strip(first) if first else "", elem_id="example-pictures"
            )
        with gr.Column(visible=first is None) as self.own_group:
            gr.HTML(cards.note(PHOTO_ADVICE), padding=False)
            self.photos = gr.Gallery(
                show_label=False,
                columns=5,
                object_fit="cover",
                height=190,
                interactive=True,
                file_types=["image"],
                buttons=[],
                elem_id="photos",
            )
            self.report = gr.HTML(padding=False, elem_id="photo-report")
        word = first.class_word if first else "dog"
        with gr.Row():
            self.class_word = gr.Textbox(
                word,
                label="What is it?",
                info="One or two plain words",
                elem_id="class-word",
            )
            self.prompt = gr.Textbox(
                name_prompt(word),
                label="The prompt that will mean it",
                info="The rare word sks becomes its name",
                elem_id="prompt",
            )

    def _method(self) -> None:
        gr.HTML(cards.heading(2, "Method", "how the model may change"), padding=False)
        default = next(iter(ADAPTERS))
        self.method = gr.Radio(
            [(method.__name__, name) for name, method in ADAPTERS.items()],
            value=default,
            show_label=False,
            info=ADAPTERS[default].title,
            elem_id="method",
        )
        self.settings: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, gr.Column] = {}
        for name in ADAPTERS:
            with gr.Column(visible=name == default) as self.groups[name]:
                self.settings[name] = settings_fields(name)

    def _training(self) -> None:
        gr.HTML(cards.heading(3, "Training"), padding=False)
        with gr.Row():
            self.steps = gr.Number(
                300,
                label="Steps",
                info="More steps, more likeness",
                elem_id="steps",
            )
            self.rate = gr.Number(
                default_learning_rate(next(iter(ADAPTERS))),
                label="Learning rate",
                info="How far each step goes",
                elem_id="learning-rate",
            )
            self.seed = gr.Number(
                0, label="Seed", info="Same seed, same result", elem_id="train-seed"
            )
        with gr.Accordion("More", open=False):
            self.base = gr.Dropdown(
                self.studio.base_choices(), value=self.studio.bases[0], label="Base model"
            )
            with gr.Row():
                self.batch = gr.Number(4, label="Pictures per step", elem_id="batch")
                self.every = gr.Number(
                    100, label="Sample pictures every … steps", elem_id="sample-every"
                )
            self.sample_prompts = gr.Textbox(
                in_contexts(self.prompt.value),
                label="Sample prompts",
                info="Painted on the way, always with the same seeds. One per line",
                lines=2,
                elem_id="sample-prompts",
            )
            self.name = gr.Textbox(
                label="Name of the run", placeholder="chosen for you", elem_id="run-name"
            )
        self.start_button = gr.Button(
            "Start training", variant="primary", size="lg", elem_id="start"
        )
        self.message = gr.HTML(padding=False, elem_id="start-message")

    def _connect(self) -> None:
        groups = [self.example_group, self.own_group]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.source.input(self._choose_source, self.source, groups, **private)
        self.example.input(
            self._choose_example, self.example, [self.example_pictures, self.class_word], **private
        )
        gr.on(
            [self.photos.change, self.base.change], self._look, [self.photos, self.base],
            self.report, **private,
        )  # fmt: skip
        self.class_word.change(name_prompt, self.class_word, self.prompt, **private)
        self.prompt.change(in_contexts, self.prompt, self.sample_prompts, **private)
        self.method.input(
            self._choose_method, self.method, [self.method, self.rate, *self.groups.values()],
            **private,
        )  # fmt: skip
        fields = {
            self.source, self.example, self.photos, self.class_word, self.prompt, self.method,
            self.steps, self.rate, self.seed, self.base, self.batch, self.every,
            self.sample_prompts, self.name,
            *(field for fields in self.settings.values() for field in fields.values()),
        }  # fmt: skip
        self.start_button.click(
            self.start, fields, [self.message, self.runs.run], api_visibility="private"
        ).then(**self.runs.refreshing)

    def start(self, data: Data) -> tuple[str, Any]:
        """Check everything, then start; the message beside the form and the list of runs."""
        try:
            name = self._start(data)
        except UserError as error:
            return cards.problem(str(error)), gr.skip()
        return "", self.runs.offer(name)

    def _start(self, data: Data) -> str:
        store, method = self.studio.store, data[self.method]
        if method not in ADAPTERS:
            raise UserError("Choose one of the methods.")
        wish = (data[self.name] or "").strip()
        name = wish or store.free_name(f"{data[self.class_word] or 'subject'}-{method}")
        folder = store.claim(name)
        form = TrainForm(
            base=data[self.base],
            prompt=data[self.prompt] or "",
            method=method,
            settings={name: data[field] for name, field in self.settings[method].items()},
            steps=data[self.steps],
            learning_rate=data[self.rate],
            batch_size=data[self.batch],
            seed=data[self.seed],
            sample_every=data[self.every],
            sample_prompts=data[self.sample_prompts] or "",
        )
        config = make_config(form, bases=self.studio.bases, folder=folder)
        photos = open_photos(self._photo_paths(data))
        return self.studio.runner.start(folder, photos=photos, config=config)

    def _photo_paths(self, data: Data) -> list[Path]:
        """Files of ours for an example; for own photos, files that Gradio has received itself."""
        if data[self.source] == OWN:
            return [Path(path) for path, _ in data[self.photos] or []]
        example = self.studio.examples.get(data[self.example])
        if example is None:
            raise UserError("Choose an example subject, or add photos of your own.")
        return list(example.pictures)

    def _look(self, photos: list[tuple[str, str]] | None, base: str) -> str:
        """What `check` says about the photos, at the resolution of the chosen base."""
        if not photos or base not in self.studio.bases:
            return ""
        try:
            paths = [Path(path) for path, _ in photos]
            report = look_at_photos(paths, resolution=advice(base).resolution)
        except UserError as error:
            return cards.problem(str(error))
        return cards.photo_report(report)

    def _choose_source(self, source: str) -> list[gr.Group | gr.Column]:
        return [gr.Group(visible=source == EXAMPLE), gr.Column(visible=source == OWN)]

    def _choose_example(self, name: str) -> list[Any]:
        example = self.studio.examples[name]
        return [_strip(example), example.class_word]

    def _choose_method(self, method: str) -> list[Any]:
        rows = [gr.Column(visible=name == method) for name in ADAPTERS]
        return [gr.Radio(info=ADAPTERS[method].title), default_learning_rate(method), *rows]


def _strip(example: ExampleSubject) -> str:
    return grids.strip(example.pictures, title=example.class_word)

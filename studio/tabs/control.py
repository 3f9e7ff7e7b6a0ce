"""Tab 'Control': an image, a control image or a drawing in; images that follow its lines out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from orthodiff import control
from orthodiff.errors import UserError

from ..html import elements as html
from ..html.control_images import previews
from ..services.adapters import AdapterEntry
from ..services.control_images import ControlImage, NothingGivenError
from ..services.kinds.images import base_of
from ..services.settings.base import FieldError
from ..services.settings.images import ImageSettings
from ..services.settings.presets import sampling_advice
from ..state import Studio
from ..widgets.control_source import ControlSource
from ..widgets.fields import Form
from ..widgets.parts import adapter_picker, part, read_list
from ..words import say
from .generate import CHANGED

PREFIX = "control"
NONE_YET = (
    "There is no adapter that follows control images yet. Train one with `orthodiff train control` "
    "into the runs folder; it appears here when it has finished."
)
Data = Mapping[Any, Any]


class ControlTab:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.form = Form(ImageSettings, PREFIX)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._source()
                self._images()
            with gr.Column(scale=6, min_width=320):
                self.preview = gr.HTML(padding=False, elem_id="control-map")
                part("od-gallery", elem_id="control-gallery")
        self._connect()

    def _source(self) -> None:
        gr.HTML(html.heading(1, "Control image", "what the images follow"), padding=False)
        self.control = adapter_picker(
            elem_id="control-adapter", label="Adapter that follows control images", kind="control",
            most=1, empty=NONE_YET,
        )  # fmt: skip
        self.source = ControlSource(self.studio.examples)

    def _images(self) -> None:
        gr.HTML(html.heading(2, "The images", "what they show"), padding=False)
        self.form.add("prompts", value="a photo of a red teapot on the beach", lines=2)
        self.form.add("negative_prompt")
        self.form.add_all(("num_images", "seed"))
        self.form.add_all(("control_strength", "num_inference_steps"))
        with gr.Accordion(say("Subject and timing"), open=False):
            self.subjects = adapter_picker(
                elem_id="control-subject", label="A subject of yours, placed by the control image",
                kind="subject", most=1, optional=True,
                empty="Your finished trainings on a subject can be placed here.",
            )  # fmt: skip
            self.form.add_all(("control_start", "control_end"))
        self.form.add("compare", value=True)
        self.button = gr.Button(
            say("Generate"), variant="primary", size="lg", elem_id="control-button"
        )
        self.message = gr.HTML(
            padding=False, elem_id="control-message", elem_classes="form-message"
        )

    def _connect(self) -> None:
        private: dict[str, Any] = {
            "api_visibility": "private", "show_progress": "hidden", "queue": False,
        }  # fmt: skip
        source = self.source
        gr.on(
            [self.control.input, *source.changes], self.look, {self.control, *source.fields},
            self.preview, trigger_mode="always_last", **private,
        )  # fmt: skip
        self.control.input(self._thresholds, self.control, source.settings, **private)
        inputs = {self.control, self.subjects, *source.fields, *self.form.fields.values()}
        self.button.click(self.start, inputs, self.message, **private).then(
            None, None, js=CHANGED, **private
        )

    def look(self, data: Data, request: gr.Request) -> str:
        """The control images as they will be used, or one sentence about why there are none."""
        try:
            entry = self._adapter(str(request.username), data[self.control])
            return previews(self._control_images(data, entry, str(request.username)))
        except NothingGivenError as nothing:
            return html.note(str(nothing))
        except UserError as error:
            return html.problem(str(error))

    def start(self, data: Data, request: gr.Request) -> str:
        """Check and queue images; the message beside the button."""
        owner = str(request.username)
        try:
            entry = self._adapter(owner, data[self.control])
            used = self._control_images(data, entry, owner)
            values = self.form.values(data)
            chosen = read_list(data[self.control])[:1] + read_list(data[self.subjects])[:1]
            with tempfile.TemporaryDirectory(dir=self.studio.scratch) as scratch:
                paths = _write(used, Path(scratch))
                width, height = used[0].used.size
                values |= {"adapters": chosen, "width": width, "height": height}
                self.studio.generate(owner, values, control_images=paths)
        except UserError as error:
            return html.problem(error, prefix=PREFIX)
        return ""

    def _adapter(self, owner: str, value: str) -> AdapterEntry:
        chosen = read_list(value)
        if not chosen:
            raise FieldError("adapter", NONE_YET)
        entry = self.studio.adapters.get(owner, str(chosen[0].get("id")))
        if not entry.is_control:
            raise FieldError("adapter", f"`{entry.name}` follows no control images.")
        return entry

    def _control_images(self, data: Data, entry: AdapterEntry, owner: str) -> list[ControlImage]:
        """The control images in the size of the images, which is the one of the base."""
        condition = control.read_config(entry.folder)["condition"]
        base = base_of(self.studio.bases, entry.recipe.get("base", "")) or self.studio.bases[0]
        side = sampling_advice(base).resolution
        return self.source.used(data, condition, (side, side), self.studio.subjects, owner)

    def _thresholds(self, value: str, request: gr.Request) -> list[Any]:
        """The thresholds that an adapter was trained with."""
        try:
            entry = self._adapter(str(request.username), value)
            condition = control.read_config(entry.folder)["condition"]
        except UserError:
            return [gr.skip()] * 3
        return self.source.settings_of(condition)


def _write(control_images: list[ControlImage], folder: Path) -> list[Path]:
    paths = [folder / f"{number:02d}.png" for number in range(len(control_images))]
    for shown, path in zip(control_images, paths, strict=True):
        shown.used.save(path)
    return paths

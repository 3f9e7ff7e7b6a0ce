"""Where a control image comes from: an example, an image, a ready one or a drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from orthodiff.control import Canny, Condition
from orthodiff.control.image import Size
from orthodiff.errors import UserError

from ..services.control_images import (
    ControlImage,
    from_control_images,
    from_drawing,
    from_images,
    with_thresholds,
)
from ..services.photos import ExampleSubject
from ..services.uploads.subjects import Subjects
from ..words import say
from .parts import upload_field
from .sketchpad import sketchpad

EXAMPLE, IMAGES, CONTROL_IMAGES, DRAWING = (
    "An example",
    "My image",
    "A ready control image",
    "A drawing",
)
CLEAREST = "teapot"
"""The example whose outlines say most about it."""
HINTS = {
    IMAGES: "Its control image is computed. Up to 4 images, up to 50 MB each.",
    CONTROL_IMAGES: "Of the adapter's own kind, as PNG. Up to 4.",
}
HIGHEST = 600
"""The largest threshold of the sliders; few edges of an image are stronger."""


class ControlSource:
    """The components, and the control images they lead to."""

    def __init__(self, examples: Mapping[str, ExampleSubject]) -> None:
        self.examples = examples
        kinds = [*([EXAMPLE] if examples else []), IMAGES, CONTROL_IMAGES, DRAWING]
        self.kind = gr.Radio(
            [(say(one), one) for one in kinds], value=kinds[0], label=say("Made from"),
            elem_id="map-source",
        )  # fmt: skip
        with gr.Column(visible=kinds[0] == EXAMPLE) as example:
            self.example = gr.Radio(
                [(say(name.replace("_", " ")), name) for name in examples],
                value=CLEAREST if CLEAREST in examples else next(iter(examples), None),
                label=say("Example image"),
                elem_id="map-example",
            )
        with gr.Column(visible=kinds[0] == IMAGES) as images:
            self.images = _upload(IMAGES, "map-pictures")
        with gr.Column(visible=False) as control_images:
            self.control_images = _upload(CONTROL_IMAGES, "map-maps")
        with gr.Column(visible=False) as drawing:
            self.drawing = sketchpad(elem_id="map-drawing")
        with gr.Column() as self.computing, gr.Row(visible=False) as self.thresholds:
            self.low = _threshold("Lower threshold", 100, info="Of edges that touch strong ones")
            self.high = _threshold("Upper threshold", 200, info="Of strong edges")
        self.groups = {
            EXAMPLE: example,
            IMAGES: images,
            CONTROL_IMAGES: control_images,
            DRAWING: drawing,
        }
        self.changes = [
            self.kind.change, self.example.change, self.images.input, self.control_images.input,
            self.drawing.input, self.low.change, self.high.change,
        ]  # fmt: skip
        self.fields = {
            self.kind, self.example, self.images, self.control_images, self.drawing, self.low,
            self.high,
        }  # fmt: skip
        self.kind.input(
            self._choose, self.kind, [*self.groups.values(), self.computing],
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip

    @property
    def settings(self) -> list[Any]:
        """The components that `settings_of` gives values for."""
        return [self.low, self.high, self.thresholds]

    def settings_of(self, condition: Condition) -> list[Any]:
        """The thresholds that an adapter was trained with, where it has any."""
        if not isinstance(condition, Canny):
            return [gr.skip(), gr.skip(), gr.Row(visible=False)]
        most = max(HIGHEST, condition.high)
        sliders = [gr.Slider(value=v, maximum=most) for v in (condition.low, condition.high)]
        return [*sliders, gr.Row(visible=True)]

    def used(
        self,
        data: Mapping[Any, Any],
        condition: Condition,
        size: Size,
        subjects: Subjects,
        owner: str,
    ) -> list[ControlImage]:
        """The control images that the fields lead to.

        Raises:
            UserError: they lead to none, told in one sentence.
        """
        kind = data[self.kind]
        if kind == CONTROL_IMAGES:
            return from_control_images(
                _paths(data[self.control_images], subjects, owner), condition, size
            )
        if kind == DRAWING:
            return [from_drawing(data[self.drawing], condition, size)]
        adjusted = with_thresholds(
            condition,
            low=_whole("Lower threshold", data[self.low]),
            high=_whole("Upper threshold", data[self.high]),
        )
        if kind == IMAGES:
            return from_images(_paths(data[self.images], subjects, owner), adjusted, size)
        example = self.examples.get(data[self.example])
        if kind != EXAMPLE or example is None:
            raise UserError("Choose an example, or give an image, a control image or a drawing.")
        (used,) = from_images(example.images[:1], adjusted, size)
        return [replace(used, name=example.class_word)]

    def _choose(self, kind: str) -> list[gr.Column]:
        groups = [gr.Column(visible=kind == name) for name in self.groups]
        return [*groups, gr.Column(visible=kind in (EXAMPLE, IMAGES))]


def _upload(kind: str, elem_id: str) -> gr.HTML:
    return upload_field(
        elem_id=elem_id, label="Drop images here", hint=HINTS[kind], most=4, quiet=True
    )


def _threshold(label: str, value: int, *, info: str) -> gr.Slider:
    name = label.lower().replace(" ", "-")
    return gr.Slider(0, HIGHEST, value, step=5, label=say(label), info=say(info), elem_id=name)


def _paths(upload_id: str | None, subjects: Subjects, owner: str) -> list[Path]:
    """The clean images of an upload of this user."""
    return subjects.get(owner, upload_id).paths if upload_id else []


def _whole(label: str, value: Any) -> int:
    """A threshold.

    Raises:
        UserError: it is empty.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise UserError(f"{label} is empty. Enter a number.")
    return int(value)

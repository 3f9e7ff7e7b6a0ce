"""Form fields that follow from the settings' models: label, help, unit and kind are theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from orthodiff.schedulers import SAMPLERS

from ..services.settings.base import JobSettings
from ..services.settings.methods import MethodSetting, settings_of
from ..words import say

Field = gr.Textbox | gr.Number | gr.Checkbox | gr.Radio
TITLES = {"no": "full", "auto": "automatic"}


class Form:
    """The fields of some settings; `prefix` begins their ids on the page."""

    def __init__(self, model: type[JobSettings], prefix: str) -> None:
        self.model, self.prefix = model, prefix
        self.fields: dict[str, Any] = {}

    def add(self, name: str, **changes: Any) -> Any:
        """The component of one setting."""
        field = make_field(self.model.model_fields[name], f"{self.prefix}-{name}", changes)
        self.fields[name] = field
        return field

    def add_all(self, names: Iterable[str]) -> None:
        """Several, in a row."""
        with gr.Row():
            for name in names:
                self.add(name, min_width=150)

    def values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """What is filled in; empty fields are left to their defaults."""
        values = {name: _read(data[field]) for name, field in self.fields.items()}
        lists = {n for n in values if _kind(self.model.model_fields[n].annotation) is tuple}
        return {
            name: _lines(value) if name in lists else value
            for name, value in values.items()
            if value is not None
        }


def make_field(about: FieldInfo, elem_id: str, changes: Mapping[str, Any]) -> Any:
    """The component for a setting of the model."""
    extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
    unit = f" ({extra['unit']})" if extra.get("unit") else ""
    options: dict[str, Any] = {
        "label": say(f"{about.title or ''}{unit}"),
        "info": say(about.description) if about.description else None,
        "elem_id": elem_id,
        **changes,
    }
    kind = _kind(about.annotation)
    value = options.pop("value", None if about.is_required() else about.default)
    if kind is bool:
        return gr.Checkbox(bool(value), **options)
    if kind is Literal:
        choices = [(say(_title(word)), word) for word in _words(about.annotation)]
        return gr.Radio(choices, value=value, **options)
    placeholder = options.pop("placeholder", None) or _said(extra.get("automatic"))
    if kind in (int, float) and value is not None:  # Gradio shows an empty number as 0
        return gr.Number(value, placeholder=placeholder, **options)
    text = "\n".join(value) if isinstance(value, tuple) else value
    return gr.Textbox(text, placeholder=placeholder, **options)


def _said(text: Any) -> Any:
    return say(str(text)) if text else None


def sampler_field(prefix: str) -> gr.Dropdown:
    """Which sampler; empty for the one that a base comes with."""
    samplers = ((one.title, name) for name, one in SAMPLERS.items())
    return gr.Dropdown(
        [(say("the base's own"), ""), *samplers], value="", label=say("Sampler"),
        elem_id=f"{prefix}-sampler",
    )  # fmt: skip


def method_fields(method: str, prefix: str) -> dict[str, Any]:
    """The fields of a method by name; what is off by default lies behind a named fold."""
    settings = settings_of(method)
    main = [setting for setting in settings if not setting.is_extra]
    extras = [setting for setting in settings if setting.is_extra]
    with gr.Row():
        fields = {s.name: _method_field(s, f"{prefix}-{s.name}") for s in main}
    if extras:
        with gr.Accordion(say(f"Further settings of {method.upper()}"), open=False), gr.Row():
            fields |= {s.name: _method_field(s, f"{prefix}-{s.name}") for s in extras}
    return fields


def _method_field(setting: MethodSetting, elem_id: str) -> Any:
    options: dict[str, Any] = {
        "label": say(setting.label), "info": say(setting.help), "elem_id": elem_id,
    }  # fmt: skip
    if setting.kind is bool:
        return gr.Checkbox(setting.default, **options)
    if setting.default is None:
        return gr.Textbox(placeholder=say("automatic"), min_width=150, **options)
    return gr.Number(setting.default, min_width=150, **options)


def _kind(annotation: Any) -> Any:
    """`int | None` -> int, `tuple[str, ...]` -> tuple, `Literal[...]` -> Literal."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [one for one in get_args(annotation) if one is not type(None)]
        return _kind(inner[0])
    return get_origin(annotation) or annotation


def _words(annotation: Any) -> list[str]:
    return [str(word) for word in get_args(annotation)]


def _title(word: str) -> str:
    title = TITLES.get(word, word)
    return title if word in ("fp16", "bf16") else title.capitalize()


def _read(value: Any) -> Any:
    return None if value is None or (isinstance(value, str) and not value.strip()) else value


def _lines(text: Any) -> tuple[str, ...]:
    return tuple(line.strip() for line in str(text).splitlines() if line.strip())

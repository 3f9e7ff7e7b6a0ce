"""The parts of the page that are no Gradio, as components whose values Gradio's events can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

UPLOAD = "<od-upload %s></od-upload>"
ON_SUBJECT = """const photos = element.querySelector("od-upload");
if (props.value) photos.setAttribute("subject", props.value);
element.addEventListener("subject", (event) => {
  event.stopPropagation();
  window.studioRecipe = event.detail.recipe;
  props.value = event.detail.photos.length ? event.detail.id : "";
  trigger("input");
});"""
ON_ADAPTERS = """element.addEventListener("adapters", (event) => {
  event.stopPropagation();
  props.value = JSON.stringify(event.detail);
  trigger("input");
});"""
BRIDGE = """window.addEventListener("%s", (event) => {
  props.value = JSON.stringify(event.detail);
  trigger("input");
});"""


def upload_field(
    *, elem_id: str, label: str, hint: str = "", most: int = 50, **flags: bool
) -> gr.HTML:
    """Photos people bring; the value is the id of their upload, or empty."""
    words = {"label": label, "hint": hint, "most": str(most)}
    words |= {name: "" for name, is_on in flags.items() if is_on}
    attributes = " ".join(f'{name}="{_attribute(value)}"' for name, value in words.items())
    return gr.HTML(
        "",
        html_template=UPLOAD % attributes,
        js_on_load=ON_SUBJECT,
        elem_id=elem_id,
        padding=False,
        apply_default_css=False,
    )


def adapter_picker(
    *, elem_id: str, label: str, kind: str, most: int, empty: str, optional: bool = False
) -> gr.HTML:
    """Which adapters at which strengths; the value is a JSON list of `AdapterUse`."""
    words = {"label": label, "kind": kind, "most": str(most), "empty": empty}
    attributes = " ".join(f'{name}="{_attribute(value)}"' for name, value in words.items())
    flag = " optional" if optional else ""
    return gr.HTML(
        "[]",
        html_template=f"<od-adapters {attributes}{flag}></od-adapters>",
        js_on_load=ON_ADAPTERS,
        elem_id=elem_id,
        padding=False,
        apply_default_css=False,
    )


def part(tag: str, *, elem_id: str, **attributes: str) -> gr.HTML:
    """A part that looks after itself."""
    words = "".join(f' {name}="{_attribute(value)}"' for name, value in attributes.items())
    return gr.HTML(
        f"<{tag}{words}></{tag}>", elem_id=elem_id, padding=False, apply_default_css=False
    )


def bridge(event: str, *, elem_id: str) -> gr.HTML:
    """Hears an event of the page's own parts; the value is what it tells, as JSON."""
    return gr.HTML(
        "",
        html_template="<span></span>",
        js_on_load=BRIDGE % event,
        elem_id=elem_id,
        padding=False,
        apply_default_css=False,
    )


def _attribute(text: str) -> str:
    """Text within an HTML attribute within a JavaScript template."""
    return escape(text).replace("`", "&#96;").replace("$", "&#36;")


def read_list(value: Any) -> list[dict[str, Any]]:
    """The value of `adapter_picker`; nothing else gets through."""
    try:
        entries = json.loads(value or "[]")
    except (TypeError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if entries else []


def read_object(value: Any) -> Mapping[str, Any]:
    """The value of `bridge`."""
    try:
        content = json.loads(value or "{}")
    except (TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

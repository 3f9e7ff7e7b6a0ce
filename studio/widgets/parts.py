"""The parts of the page that are no Gradio, as components whose values Gradio's events can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from ..words import SAID

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
ON_PROMPTS = """element.addEventListener("prompts", (event) => {
  event.stopPropagation();
  props.value = event.detail ? JSON.stringify(event.detail) : "";
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
    SAID.update((label, hint))
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
    *, elem_id: str, label: str, kind: str, most: int, empty: str, **flags: bool
) -> gr.HTML:
    """Which adapters at which strengths: JSON with a list of `AdapterUse`.

    Flags: `optional` begins with none, `combine` offers the ways in which several go together.
    """
    SAID.update((label, empty))
    words = {"label": label, "kind": kind, "most": str(most), "empty": empty}
    attributes = " ".join(f'{name}="{_attribute(value)}"' for name, value in words.items())
    flag = "".join(f" {name}" for name, is_on in flags.items() if is_on)
    return gr.HTML(
        "{}",
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


def prompt_file(*, elem_id: str) -> gr.HTML:
    """A file of prompts people bring; the value is JSON with its `rows` and `lists`, or empty."""
    return gr.HTML(
        "",
        html_template="<od-prompts></od-prompts>",
        js_on_load=ON_PROMPTS,
        elem_id=elem_id,
        padding=False,
        apply_default_css=False,
    )


def read_list(value: Any) -> list[dict[str, Any]]:
    """The adapters in the value of `adapters`; nothing else gets through."""
    content = _json(value)
    entries = content.get("adapters") if isinstance(content, dict) else content
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def read_adapters(value: Any) -> dict[str, Any]:
    """The adapters, and how several of them go together, as fields of `ImageSettings`."""
    content = read_object(value)
    ways = {name: content[name] for name in ("combine", "blend") if name in content}
    return {"adapters": read_list(value), **ways}


def read_object(value: Any) -> Mapping[str, Any]:
    """The value of `bridge`."""
    content = _json(value)
    return content if isinstance(content, dict) else {}


def _json(value: Any) -> Any:
    try:
        return json.loads(value or "{}")
    except (TypeError, ValueError):
        return {}

"""Forms that follow from the code: a method's fields are the fields of its settings dataclass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import gradio as gr

from orthodiff import ADAPTERS
from orthodiff.errors import UserError


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a form. `kind` is bool, int or float; an optional one may be left empty."""

    name: str
    kind: type
    default: Any
    help: str
    optional: bool = False

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def is_extra(self) -> bool:
        """Whether it is off unless somebody asks for it."""
        return not self.default


def settings_of(method: str) -> list[Setting]:
    """The settings of a method of `ADAPTERS`, in the order of its dataclass."""
    hints = get_type_hints(ADAPTERS[method])
    return [
        Setting(
            field.name,
            _kind(hints[field.name]),
            default=field.default,
            help=field.metadata.get("help", ""),
            optional=type(None) in get_args(hints[field.name]),
        )
        for field in dataclasses.fields(ADAPTERS[method])
    ]


def settings_fields(method: str) -> dict[str, gr.Checkbox | gr.Number]:
    """The fields of a method by name; what is off by default lies behind a fold."""
    settings = settings_of(method)
    with gr.Row():
        found = {
            s.name: setting_field(s, elem_id=_id(method, s)) for s in settings if not s.is_extra
        }
    extras = [setting for setting in settings if setting.is_extra]
    if extras:
        with gr.Accordion("For experts", open=False), gr.Row():
            found |= {s.name: setting_field(s, elem_id=_id(method, s)) for s in extras}
    return found


def setting_field(setting: Setting, *, elem_id: str) -> gr.Checkbox | gr.Number:
    """The form field of a setting."""
    if setting.kind is bool:
        return gr.Checkbox(setting.default, label=setting.label, info=setting.help, elem_id=elem_id)
    return gr.Number(
        setting.default,
        label=setting.label,
        info=setting.help,
        elem_id=elem_id,
        placeholder="automatic" if setting.optional else None,
    )


def read_settings(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of a method hold; an optional one that is empty is left out.

    Raises:
        UserError: a field is empty, or holds no number of the kind it needs.
    """
    found = {}
    for setting in settings_of(method):
        value = values[setting.name]
        if value is None and setting.optional:
            continue
        if setting.kind is bool:
            found[setting.name] = bool(value)
        elif setting.kind is int:
            found[setting.name] = whole(setting.label, value)
        else:
            found[setting.name] = number(setting.label, value)
    return found


def whole(label: str, value: Any, *, least: int = 0, most: int = 10**9) -> int:
    """`value` as a whole number from `least` to `most`.

    Raises:
        UserError: it is empty, has a fraction, or lies outside.
    """
    found = number(label, value, least=least, most=most)
    if found != int(found):
        raise UserError(f"{label} is {found:g}, but it must be a whole number. Use {int(found)}.")
    return int(found)


def number(
    label: str, value: Any, *, least: float = -math.inf, most: float = math.inf, above: bool = False
) -> float:
    """`value` as a finite number from `least` (or, with `above`, over it) to `most`.

    Raises:
        UserError: it is empty or lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{label} is empty. Enter a number.")
    if value < least or (above and value == least):
        raise UserError(
            f"{label} is {value:g}. Use {'more than' if above else 'at least'} {least:g}."
        )
    if value > most:
        raise UserError(f"{label} is {value:g}. Use at most {most:g}.")
    return float(value)


def lines(text: str | None) -> tuple[str, ...]:
    """The lines of a text field that are not empty."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def _id(method: str, setting: Setting) -> str:
    return f"{method}-{setting.name}"


def _kind(hint: Any) -> type:
    """`float | None` -> float; what is no number and no switch would need a field of its own."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if kinds[0] not in (bool, int, float):
        raise TypeError(f"there is no form field for a setting of type {hint}")
    return kinds[0]

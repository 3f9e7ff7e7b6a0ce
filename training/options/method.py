"""A method's own settings as flags, and back from text to its settings object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from orthodiff.adapters import ADAPTERS, Method
from orthodiff.cli.flags import Flag, kind_of
from orthodiff.errors import UserError, nearest
from orthodiff.settings import typed

DEFAULT_LEARNING_RATES = {"hra": 3e-3, "oft": 1e-3, "boft": 1e-3, "lora": 1e-3}


def default_learning_rate(method: str) -> float:
    """The peak learning rate of a method unless another is given."""
    return DEFAULT_LEARNING_RATES.get(method, 1e-4)


def setting_flags() -> dict[str, Flag]:
    """One flag per setting of any method; shared names share the flag."""
    flags: dict[str, Flag] = {}
    for name, method in ADAPTERS.items():
        hints = get_type_hints(method)
        for field in dataclasses.fields(method):
            before = flags[field.name].help + "; " if field.name in flags else ""
            text = f"{before}{name}: {field.metadata.get('help', '')} [{field.default}]"
            flags[field.name] = Flag(
                field.name,
                text,
                is_switch=isinstance(field.default, bool),
                kind=kind_of(hints[field.name]),
            )
    return flags


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """The settings object of method `name`; values may still be a flag's text.

    Raises:
        UserError: unknown method, a setting it does not have, or a value it cannot take.
    """
    if name not in ADAPTERS:
        raise UserError(f"`{name}` is not a method.{nearest(name, ADAPTERS)}")
    method = ADAPTERS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(method)}
    kinds = get_type_hints(method)
    for setting in settings:
        if setting not in defaults:
            known = ", ".join(defaults)
            raise UserError(f"`{setting}` is not a setting of {name}. It has {known}.")
    return method(
        **{
            setting: typed(setting, kinds[setting], value, example=defaults[setting])
            for setting, value in settings.items()
        }
    )

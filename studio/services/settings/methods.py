"""A method's own settings: the fields of its dataclass, with how each is read from a form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args, get_type_hints

from orthodiff import ADAPTERS

from .base import FieldError


@dataclasses.dataclass(frozen=True)
class MethodSetting:
    """One setting. `kind` is bool, int or float; an optional one may be left empty."""

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

    def parse(self, value: Any) -> Any:
        """The value as its kind.

        Raises:
            FieldError: it is no number of this kind.
        """
        if self.kind is bool:
            return bool(value)
        value = _number(value)
        if value is None:
            raise FieldError("method_settings", f"{self.label} is no number. Enter a number.")
        if self.kind is int and value != int(value):
            sentence = f"{self.label} is {value:g}, but it must be a whole number."
            raise FieldError("method_settings", f"{sentence} Use {int(value)}.")
        return self.kind(value)


def _number(value: Any) -> float | None:
    """A finite number, perhaps as text."""
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and math.isfinite(number) else None


def settings_of(method: str) -> list[MethodSetting]:
    """The settings of a method of `ADAPTERS`, in the order of its dataclass."""
    hints = get_type_hints(ADAPTERS[method])
    return [
        MethodSetting(
            field.name,
            _kind(hints[field.name]),
            default=field.default,
            help=field.metadata.get("help", ""),
            optional=type(None) in get_args(hints[field.name]),
        )
        for field in dataclasses.fields(ADAPTERS[method])
        if _kind(hints[field.name]) is not None
    ]


def _kind(hint: Any) -> Any:
    """`float | None` -> float; None for what is no number and no switch."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return kinds[0] if kinds[0] in (bool, int, float) else None

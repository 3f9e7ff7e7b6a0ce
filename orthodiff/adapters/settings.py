"""Settings as dataclass fields that carry their help and range: checks, flags, forms follow.

Plain dataclasses and not pydantic's, as the library itself needs only torch, safetensors and
diffusers; the trainer's pydantic options take them in as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args, get_type_hints

from typing_extensions import Self

from orthodiff.errors import UserError


def setting(
    default: Any,
    *,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    lt: float | None = None,
    remedy: str | None = None,
) -> Any:
    """Return a dataclass field with its help, its range and what to do about a wrong value.

    The range is named as pydantic does: at least `ge`, above `gt`, below `lt`.
    """
    limits = {"ge": ge, "gt": gt, "lt": lt, "remedy": remedy}
    given = {name: value for name, value in limits.items() if value is not None}
    return field(default=default, metadata={"help": help, **given})


@dataclass(frozen=True)
class Settings:
    """Base of settings: every field is checked against its type and range.

    Raises:
        UserError: naming the first setting whose value does not fit, and one that does.
    """

    def __post_init__(self) -> None:
        kinds = _kinds(type(self))  # type: ignore[arg-type]
        for each in dataclasses.fields(self):
            if (kind := kinds[each.name]) is not None:
                _check(each.name, getattr(self, each.name), kind, each)

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain values, as saved in the recipe."""
        return dataclasses.asdict(self)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the object that `settings` were taken from."""
        return cls(**settings)


@cache
def _kinds(cls: type) -> dict[str, tuple[type, bool] | None]:
    """Return by field its number type and whether it may be None; None for any other type."""
    kinds: dict[str, tuple[type, bool] | None] = {}
    for name, hint in get_type_hints(cls).items():
        options = [each for each in get_args(hint) or (hint,) if each is not type(None)]
        is_optional = type(None) in get_args(hint)
        known = len(options) == 1 and options[0] in (bool, int, float)
        kinds[name] = (options[0], is_optional) if known else None
    return kinds


def _check(name: str, value: Any, kind: tuple[type, bool], each: dataclasses.Field[Any]) -> None:
    number, is_optional = kind
    limits: Mapping[str, Any] = each.metadata
    if value is None and is_optional:
        return
    if number is bool:
        fits = isinstance(value, bool)
    else:
        allowed = (int,) if number is int else (int, float)
        fits = isinstance(value, allowed) and not isinstance(value, bool)
        fits = fits and math.isfinite(value) and _is_within(value, limits)
    if not fits:
        example = limits.get("remedy") or f"Use for example {each.default}"
        raise UserError(
            f"`{name}` is {value!r}, but it must be {_rule(number, limits)}. {example}."
        )


def _is_within(value: float, limits: Mapping[str, Any]) -> bool:
    return (
        value >= limits.get("ge", -math.inf)
        and value < limits.get("lt", math.inf)
        and ("gt" not in limits or value > limits["gt"])
    )


def _rule(number: type, limits: Mapping[str, Any]) -> str:
    """Return what a value must be, in words."""
    if number is bool:
        return "true or false"
    least, above, below = (limits.get(name) for name in ("ge", "gt", "lt"))
    if least is not None and below is not None:
        return f"from {least} to below {below}"
    if above is not None:
        return f"above {above}"
    noun = "a whole number" if number is int else "a number"
    return f"{noun} of at least {least}" if least is not None else noun

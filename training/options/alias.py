"""Flags of diffusers' that say what another option says: told by that one, before YAML meets flags.

Only the option they stand for is used and saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from orthodiff.errors import UserError


@dataclass(frozen=True)
class Alias:
    """Marks a field, `Annotated[bool, Alias(...)]`, that stands for the option `target`.

    A switch means the value `on`, or any but that, by itself `off`; without `on` it is a number.
    """

    target: str
    on: str | None = None
    off: str | None = None

    def parse(self, value: Any) -> bool | float | None:
        """What was written, perhaps as text; None where nothing was, or what cannot be read."""
        kind: TypeAdapter[Any] = TypeAdapter(float if self.on is None else bool)
        try:
            return kind.validate_python(value)  # type: ignore[no-any-return]
        except ValidationError:
            return None

    def agrees(self, value: Any, other: Any) -> bool:
        """Whether the target may be `other` where this is `value`."""
        own = self.parse(value)
        return self.parse(other) == own if self.on is None else (other == self.on) is own

    def meaning(self, value: Any) -> Any:
        """The target's value; None where any will do that `agrees`."""
        if self.on is None:
            return value
        return self.on if self.parse(value) else self.off


def aliases_of(options: type[BaseModel]) -> dict[str, Alias]:
    """The fields that stand for others."""
    return {
        name: mark
        for name, field in options.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Alias)
    }


def spelled_out(options: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with targets in place of aliases; those that cannot be read are left for checks.

    Raises:
        UserError: an alias and its target contradict each other.
    """
    spelled = dict(values)
    for name, alias in aliases_of(options).items():
        if alias.parse(spelled.get(name)) is None:
            continue
        value, other = spelled.pop(name), spelled.get(alias.target)
        if other is None:
            spelled |= {} if alias.meaning(value) is None else {alias.target: alias.meaning(value)}
        elif not alias.agrees(value, other):
            own = str(value).lower()
            raise UserError(
                f"`{name}` {own} and `{alias.target}` {other} contradict each other. "
                "Leave one of them out."
            )
    return spelled


def spelled_out_file(options: type[BaseModel], saved: Mapping[str, Any]) -> dict[str, Any]:
    """`spelled_out` for a saved configuration.

    Older ones hold every alias, most of them unused: beside its target such a one says nothing.

    Raises:
        UserError: an alias and its target contradict each other.
    """
    default = {name: options.model_fields[name].default for name in aliases_of(options)}
    unused = {
        name
        for name, alias in aliases_of(options).items()
        if saved.get(name) == default[name] and saved.get(alias.target) is not None
    }
    return spelled_out(options, {name: v for name, v in saved.items() if name not in unused})


def merged(
    options: type[BaseModel], written: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The `given` flags over what is `written` in a file, which must not contradict them.

    Raises:
        UserError: on one of the levels an alias and its target contradict each other.
    """
    below = spelled_out_file(options, written)
    for name, alias in aliases_of(options).items():
        if name in given and not alias.agrees(given[name], below.get(alias.target)):
            below.pop(alias.target, None)
    return {**below, **spelled_out(options, given)}

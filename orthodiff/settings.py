"""Settings read from flags, YAML values and forms: checked, with sentences for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from orthodiff.errors import UserError, nearest, printable

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
EXAMPLE = 8
"""Of a setting without a default: those are numbers."""


def typed(name: str, kind: Any, value: Any, *, example: Any) -> Any:
    """A setting's `value`, perhaps a flag's text, as its `kind`.

    Raises:
        UserError: it is not, and does not read as, one.
    """
    from pydantic import TypeAdapter, ValidationError

    written = str(value) if isinstance(value, bool) else value  # true is no number
    try:
        return TypeAdapter(kind).validate_python(written)
    except ValidationError as error:
        words = [KINDS[one] for one in (kind, *get_args(kind)) if one in KINDS]
        raise UserError(
            f"`{name}` is {value!r}, but it must be {' or '.join(words)}. Use for example "
            f"{EXAMPLE if example is None else str(example).lower()}."
        ) from error


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Build the model.

    Raises:
        UserError: the first thing wrong with `values`, as one sentence with its remedy.
    """
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        raise UserError(_sentence(model, error.errors()[0])) from error


def parse_settings(written: Sequence[str]) -> dict[str, Any]:
    """Settings written as NAME=VALUE by name, numbers as numbers.

    Raises:
        UserError: one is written in another way.
    """
    import yaml

    settings = {}
    for each in written:
        name, _, value = each.partition("=")
        try:
            settings[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # ValueError: no such date
            value = ""
        if not (name and value):
            raise UserError(
                f"`condition_setting` is {each!r}, but NAME=VALUE is due, such as low=50."
            )
    return settings


def _sentence(model: type[BaseModel], problem: Any) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0]) if problem["loc"] else model.__name__
    if problem["type"] == "extra_forbidden":
        return f"`{name}` is not a known setting.{nearest(name, model.model_fields)}"
    if problem["type"] == "string_unicode":
        return f"`{name}` is not in UTF-8: {printable(problem['input'])}. Write it in UTF-8."
    if problem["type"] == "missing":
        return f"`{name}` is missing. Give it with --{name} VALUE."
    rule = (problem["msg"][:1].lower() + problem["msg"][1:]).replace("input ", "it ")
    return f"`{name}` is {problem['input']!r}, but {rule}.{_choices(model, name, problem)}"


def _choices(model: type[BaseModel], name: str, problem: Any) -> str:
    if problem["type"] != "literal_error" or name not in model.model_fields:
        return " Correct it."
    return nearest(str(problem["input"]), _literals(model.model_fields[name].annotation))


def _literals(annotation: Any) -> list[str]:
    """`Literal["a", "b"] | None` -> a, b."""
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    return [option for part in get_args(annotation) for option in _literals(part)]

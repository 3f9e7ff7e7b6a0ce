"""What all settings models share: labels, ranges and units beside the types, no unknown key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orthodiff.errors import UserError

Model = TypeVar("Model", bound="JobSettings")


class JobSettings(BaseModel):
    """Settings of a job. A field that is None is chosen when the job is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FieldError(UserError):
    """A value that cannot be as it is; `field` says beside which field to tell it."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


def job_setting(
    default: Any,
    label: str,
    help: str = "",
    *,
    section: str = "",
    unit: str = "",
    automatic: str = "",
    **rules: Any,
) -> Any:
    """A field with all that a form needs: `automatic` is shown in an empty field."""
    extra = {"section": section, "unit": unit, "automatic": automatic}
    return Field(default, title=label, description=help, json_schema_extra=extra, **rules)


def read_settings(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The settings a person sent.

    Raises:
        FieldError: the first value that cannot be as it is.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise _sentence(model, error.errors()[0]) from error


def label_of(model: type[BaseModel], name: str) -> str:
    """What a field is called on the page."""
    field = model.model_fields.get(name)
    return (field.title if field else None) or name.replace("_", " ")


def _sentence(model: type[JobSettings], problem: Any) -> FieldError:
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "value_error":
        error = problem["ctx"]["error"]
        return error if isinstance(error, FieldError) else FieldError(name, str(error))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields)
        return FieldError(name, f"`{name}` is not a setting. There are {known}.")
    if problem["type"] == "missing":
        return FieldError(name, f"{label_of(model, name)} is missing. Fill it in.")
    rule = problem["msg"][:1].lower() + problem["msg"][1:]
    rule = rule.replace("input ", "it ").removesuffix(".")
    shown = repr(problem["input"])
    given = shown if len(shown) <= 60 else f"{shown[:57]}..."
    inner = [str(part) for part in problem["loc"][1:] if isinstance(part, str)]
    label = ", ".join([label_of(model, name), *inner])
    return FieldError(name, f"{label} is {given}, but {rule}. Correct it.")

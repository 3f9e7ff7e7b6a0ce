"""What every group of options has in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orthodiff.errors import is_unicode, printable

from .alias import spelled_out

NO_IS_A_WORD = BeforeValidator(lambda value: "no" if value is False else value)
"""YAML reads `no` as false."""


TEXTS = (
    "instance_prompt", "class_prompt", "validation_prompt", "trigger_phrase", "placeholder_token",
    "initializer_token",
)  # fmt: skip
"""Options that tokenizers read."""


class Options(BaseModel):
    """A frozen group of options; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def notes(self) -> list[str]:
        """What was asked for and has no effect, one sentence each."""
        return []

    def in_effect(self) -> dict[str, Any]:
        """What settings come to that may be written in several ways; None where one is idle."""
        return {}

    @model_validator(mode="before")
    @classmethod
    def _spell_out_aliases(cls, values: dict[str, Any]) -> dict[str, Any]:
        return spelled_out(cls, values)

    @field_validator(*TEXTS, mode="after", check_fields=False)
    @classmethod
    def _check_unicode(cls, value: Any, info: ValidationInfo) -> Any:
        """Text is read by tokenizers, which take nothing else than UTF-8; names of files may be."""
        for text in value if isinstance(value, tuple) else (value,):
            if text is not None and not is_unicode(text):
                raise ValueError(
                    f"`{info.field_name}` is not in UTF-8: {printable(text)}. Write it in UTF-8."
                )
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _read_paths(cls, value: Any, info: ValidationInfo) -> Any:
        """An unset variable of a shell makes an empty path, which would mean the folder here.

        In YAML and after `=` no shell has put the home folder for `~`.
        """
        kind = cls.model_fields[info.field_name or ""].annotation
        if Path not in (kind, *get_args(kind)):
            return value
        if value == "":
            raise ValueError(f"`{info.field_name}` is empty. Name a folder, or leave it out.")
        if isinstance(value, list | tuple):
            return tuple(os.path.expanduser(v) if isinstance(v, str) else v for v in value)
        return os.path.expanduser(value) if isinstance(value, str) else value


class _Harmless:
    """Marks a field, `Annotated[int, Harmless]`, that a continued run may change."""


Harmless = _Harmless()


def harmful_fields(options: type[Options]) -> list[str]:
    """Fields that change what a run computes: they must stay when it is continued."""
    return [name for name, field in options.model_fields.items() if Harmless not in field.metadata]

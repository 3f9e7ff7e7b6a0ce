"""What every group of options has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """A frozen group of options; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Harmless:
    """Marks a field, `Annotated[int, Harmless]`, that a continued run may change."""


Harmless = _Harmless()


def is_on(value: Any) -> bool:
    """Whether a switch not yet read as a boolean is on."""
    return str(value).lower() in ("true", "1", "yes", "on", "t", "y")


def harmful_fields(options: type[Options]) -> list[str]:
    """Fields that change what a run computes: they must stay when it is continued."""
    return [name for name, field in options.model_fields.items() if Harmless not in field.metadata]

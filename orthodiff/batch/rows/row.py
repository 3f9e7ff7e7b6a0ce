"""One image to make, as a user writes it: a line of a file with some settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orthodiff.errors import UserError
from orthodiff.schedulers import sampler_name
from orthodiff.settings import validate

ALIASES = {
    "text": "prompt",
    "negative": "negative_prompt",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "scale": "guidance_scale",
    "scheduler": "sampler",
    "adapters": "adapter",
    "w": "width",
    "h": "height",
    "denoising_strength": "denoise",
}
"""Other names that files may use for a row's fields."""


class Row(BaseModel):
    """One image; what is None is the base's advice. Adapters are applied in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1)
    negative_prompt: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0)
    width: int | None = Field(None, ge=8)
    height: int | None = Field(None, ge=8)
    sampler: str | None = None
    adapter: tuple[str, ...] = ()
    checkpoint: str | None = None
    strength: float = 1.0
    init_image: str | None = None
    mask: str | None = None
    denoise: float | None = Field(None, gt=0, le=1)
    condition: str | None = None
    condition_from: str | None = None
    control_strength: float = Field(1.0, ge=0, le=10)
    control_start: float = Field(0.0, ge=0, le=1)
    control_end: float = Field(1.0, ge=0, le=1)

    @field_validator("sampler")
    @classmethod
    def _name_sampler(cls, written: str | None) -> str | None:
        return None if written is None else sampler_name(written)

    @field_validator("adapter", mode="before")
    @classmethod
    def _split_adapters(cls, written: Any) -> Any:
        """`a + b` is a composition of two folders."""
        if isinstance(written, str):
            return tuple(part.strip() for part in written.split(" + ") if part.strip())
        return written

    def written(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        content = self.model_dump(mode="json", exclude_none=True)
        default = {name: field.default for name, field in Row.model_fields.items()}
        return {
            name: value
            for name, value in content.items()
            if name == "seed" or (value and value != default[name])
        }


FIELDS = tuple(Row.model_fields)


def row_of(values: Mapping[str, Any]) -> Row:
    """The row that `values` describe.

    Raises:
        UserError: one of them cannot be meant.
    """
    return validate(Row, values)


def canonical_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` by the names of `Row`: aliases replaced, `size` split, empty cells left out.

    Raises:
        UserError: two names of one field are given, or a size is not WIDTHxHEIGHT.
    """
    named: dict[str, Any] = {}
    for written, value in values.items():
        name = written.strip().lower().replace(" ", "_").replace("-", "_")
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        for field, content in _split(ALIASES.get(name, name), value).items():
            if field in named:
                raise UserError(f"`{written}` says `{field}` a second time. Leave one out.")
            named[field] = content
    return named


def _split(name: str, value: Any) -> dict[str, Any]:
    if name != "size":
        return {name: value.strip() if isinstance(value, str) else value}
    width, cross, height = str(value).lower().partition("x")
    if not (cross and width.strip().isdigit() and height.strip().isdigit()):
        raise UserError(f"`size` is {value!r}, but WIDTHxHEIGHT is due, such as 512x768.")
    return {"width": width.strip(), "height": height.strip()}

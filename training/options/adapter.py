"""Which method, and its own settings.

A method's settings (`rank`, `block_size`, ...) come from its dataclass in `orthodiff.ADAPTERS`; in
YAML and on the command line they stand beside the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, get_type_hints

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from orthodiff.adapters import ADAPTERS, Method
from orthodiff.adapters.targets import ATTENTION
from orthodiff.cli.flags import Flag, kind_of
from orthodiff.errors import UserError, nearest
from orthodiff.settings import typed

from .base import Options

DEFAULT_LEARNING_RATES = {"hra": 3e-3, "oft": 1e-3, "boft": 1e-3, "lora": 1e-3}


class AdapterOptions(Options):
    usual_targets: ClassVar[tuple[str, ...]] = ATTENTION

    method: str = Field(
        "hra", description="adapter: hra, oft, boft, lora, or one that a package adds"
    )
    settings: dict[str, Any] = Field(default_factory=dict)
    target_modules: tuple[str, ...] = Field(
        (),
        description="the UNet's layers to adapt, linear or convolution, by the end of their names "
        "or by patterns such as down_blocks.0.resnets.*.conv1 [attention; control: GEGLU too]",
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Move the method's settings, which lie flat beside the others, into `settings`."""
        known = set(setting_flags())
        inner = dict(values.get("settings", {}))
        inner.update({name: value for name, value in values.items() if name in known})
        outer = {name: value for name, value in values.items() if name not in known}
        return {**outer, "settings": inner}

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        self.method_settings()
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The layers to adapt: those that were given, else the usual ones."""
        return tuple(self.target_modules) or self.usual_targets

    def in_effect(self) -> dict[str, Any]:
        return {**super().in_effect(), "target_modules": self.targets}

    def method_settings(self) -> dict[str, Any]:
        """Everything the method can be set to, as it is set."""
        return dataclasses.asdict(self.adapter())

    def adapter(self) -> Method:
        """The method's settings object.

        Raises:
            UserError: unknown method, a setting it does not have, or a value it cannot take.
        """
        return make_method(self.method, self.settings)


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

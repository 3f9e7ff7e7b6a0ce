"""The configuration of a run: YAML keys, flags, defaults, help and checks, all from one class.

Names are those of diffusers' scripts. A task's class is `RunConfig` and what only that task knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic_core import to_jsonable_python
from typing_extensions import Self

from orthodiff.errors import UserError
from orthodiff.flags import Flag, flags_of, nearest, parse_flags, validate
from training.method import setting_flags, usual_rate
from training.options import (
    AdapterOptions,
    CheckpointOptions,
    CompatibleOptions,
    DataOptions,
    HubOptions,
    LogOptions,
    MemoryOptions,
    ModelOptions,
    ObjectiveOptions,
    OptimiseOptions,
    ValidationOptions,
    harmful_fields,
)

OWN_KEYS = ("settings",)
IN_EPOCHS = {"num_train_epochs": "max_train_steps", "validation_epochs": "validation_steps"}
"""Flags in epochs, and in steps."""


class RunConfig(
    CompatibleOptions,
    HubOptions,
    LogOptions,
    CheckpointOptions,
    ValidationOptions,
    MemoryOptions,
    ObjectiveOptions,
    OptimiseOptions,
    AdapterOptions,
    DataOptions,
    ModelOptions,
):
    """What every task can be told; of the groups above, the last heads the help."""

    @property
    def rate(self) -> float:
        """The peak learning rate before scaling; Prodigy multiplies its own estimate by it."""
        usual = 1.0 if self.optimizer == "prodigy" else usual_rate(self.method)
        return self.learning_rate or usual

    def rate_for(self, part: str) -> float:
        """The peak learning rate before scaling of one part of what is learned."""
        return self.rate

    def notes(self) -> list[str]:
        return [*super().notes(), *self.idle_rates()]

    def counted(self, *, examples: int, processes: int) -> Self:
        """The same with epochs in steps, an epoch seeing each of the `examples` once.

        As in diffusers' scripts, a number of steps that was given wins over one of epochs.
        """
        batches = math.ceil(examples / (self.train_batch_size * processes))
        epoch = math.ceil(batches / self.gradient_accumulation_steps)
        steps: dict[str, int] = {}
        if self.num_train_epochs and "max_train_steps" not in self.model_fields_set:
            steps["max_train_steps"] = self.num_train_epochs * epoch
        if self.validation_epochs and "validation_steps" not in self.model_fields_set:
            steps["validation_steps"] = self.validation_epochs * epoch
        return self.model_copy(update=steps)

    def resolved(self) -> dict[str, Any]:
        """All values as YAML and JSON know them, the method's settings beside the others."""
        plain = self.model_dump(mode="json", exclude=set(OWN_KEYS))
        return {**plain, **self.method_settings()}

    def to_yaml(self) -> str:
        """The resolved configuration; reading it again gives an equal one."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)

    def difference(self, saved: Mapping[str, Any]) -> str | None:
        """The first setting whose change makes another run of the one `resolved` to `saved`."""
        now, fields = self.resolved(), type(self).model_fields
        names = [name for name in harmful_fields(type(self)) if name not in OWN_KEYS]
        for name in (*names, *self.method_settings()):
            if name in saved:
                before = saved[name]
            else:  # an option that there was not yet
                before = fields[name].get_default() if name in fields else None
            if now[name] != to_jsonable_python(before, fallback=str):
                return name
        return None


Config = TypeVar("Config", bound=RunConfig)


def read_config(arguments: Sequence[str], kind: type[Config], *, prog: str) -> Config:
    """A configuration of this `kind`: flags over YAML over defaults.

    Raises:
        UserError: anything unknown, missing, contradictory or out of range.
    """
    flags = [
        Flag("config", "YAML file with any of the settings below; flags win over it"),
        *(flag for flag in flags_of(kind) if flag.name not in OWN_KEYS),
        *setting_flags().values(),
    ]
    given = parse_flags(flags, arguments, prog=prog, description=kind.__doc__ or "")
    path = given.pop("config", None)
    written = read_yaml(Path(path), kind) if path else {}
    usual = kind.model_fields["method"].default
    if "method" in given and given["method"] != written.get("method", usual):
        of_the_method = {*setting_flags(), "learning_rate"}
        written = {name: v for name, v in written.items() if name not in of_the_method}
    for epochs, steps in IN_EPOCHS.items():
        if epochs in given:
            written.pop(steps, None)
    return validate(kind, {**written, **given})


def read_yaml(path: Path, kind: type[RunConfig]) -> dict[str, Any]:
    """A YAML file of settings for this `kind` of run.

    Raises:
        UserError: no such file, not YAML, or a key nobody knows (the nearest one is named).
    """
    if not path.is_file():
        raise UserError(f"The configuration file `{path}` does not exist. Check --config.")
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(error).replace("\n", " ")
        raise UserError(f"`{path}` is not valid YAML: {where}. Correct it there.") from error
    if not isinstance(values, Mapping):
        raise UserError(f"`{path}` must hold `name: value` lines. Compare it with configs/.")
    known = [*kind.model_fields, *setting_flags()]
    for name in values:
        if name not in known or name in OWN_KEYS:
            raise UserError(f"`{name}` in `{path}` is not a setting.{nearest(str(name), known)}")
    return dict(values)

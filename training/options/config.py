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

from orthodiff.cli.flags import Flag, flags_of, parse_flags
from orthodiff.errors import UserError, is_unicode, nearest
from orthodiff.settings import validate

from . import (
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
    SourceOptions,
    ValidationOptions,
    harmful_fields,
    merged,
    spelled_out_file,
)
from .adapter import default_learning_rate, setting_flags

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
    SourceOptions,
    ModelOptions,
):
    """What every task can be told; of the groups above, the last heads the help."""

    @property
    def peak_lr(self) -> float:
        """The peak learning rate before scaling; Prodigy multiplies its own estimate by it."""
        default = 1.0 if self.optimizer == "prodigy" else default_learning_rate(self.method)
        return self.learning_rate or default

    def lr_for(self, part: str) -> float:
        """The peak learning rate before scaling of one part of what is learned."""
        return self.peak_lr

    def in_effect(self) -> dict[str, Any]:
        return {**super().in_effect(), "learning_rate": self.peak_lr}

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
        text = yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)
        if is_unicode(text):
            return text
        return yaml.safe_dump(self.resolved(), sort_keys=False)  # bytes of a path as escapes

    def difference(self, saved: Mapping[str, Any]) -> str | None:
        """The first setting whose change makes another run of the one `resolved` to `saved`.

        What is only written in another way, or has no effect, makes none.
        """
        now, before = self.resolved(), self._with_new_options(saved)
        then = type(self).model_construct(**before)  # today's checks are not those of its day
        here, there = {**now, **self.in_effect()}, {**before, **then.in_effect()}
        names = [name for name in harmful_fields(type(self)) if name not in OWN_KEYS]
        for name in (*names, *self.method_settings()):
            if now[name] != before.get(name) and here[name] != there.get(name):
                return name
        return None

    def _with_new_options(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """What was saved, aliases spelled out, with the default of options not there yet."""
        fields = type(self).model_fields.items()
        default = {name: field.get_default() for name, field in fields if not field.is_required()}
        plain: dict[str, Any] = to_jsonable_python(default, fallback=str)
        return {**plain, **spelled_out_file(type(self), saved)}


Config = TypeVar("Config", bound=RunConfig)


def parse_config(arguments: Sequence[str], kind: type[Config], *, prog: str) -> Config:
    """A configuration of this `kind`: flags over YAML over defaults.

    Raises:
        UserError: anything unknown, missing, contradictory or out of range.
    """
    flags = [
        Flag("config", "YAML file with any of the settings below; flags win over it", kind="PATH"),
        *(flag for flag in flags_of(kind) if flag.name not in OWN_KEYS),
        *setting_flags().values(),
    ]
    given = parse_flags(flags, arguments, prog=prog, description=kind.__doc__ or "")
    path = given.pop("config", None)
    written = read_yaml(Path(path), kind) if path else {}
    default = kind.model_fields["method"].default
    if "method" in given and given["method"] != written.get("method", default):
        of_the_method = {*setting_flags(), "learning_rate"}
        written = {name: v for name, v in written.items() if name not in of_the_method}
    for epochs, steps in IN_EPOCHS.items():
        if epochs in given:
            written.pop(steps, None)
    return validate(kind, merged(kind, written, given))


def read_yaml(path: Path, kind: type[RunConfig]) -> dict[str, Any]:
    """A YAML file of settings for this `kind` of run.

    Raises:
        UserError: no such file, not YAML, or a key that is there twice or that nobody knows (the
            nearest one is named).
    """
    if path.is_dir():
        raise UserError(f"`{path}` is a folder. Give a YAML file with --config.")
    if not path.is_file():
        raise UserError(f"The configuration file `{path}` does not exist. Check --config.")
    try:
        text = path.read_text("utf-8")
        _refuse_repeated(yaml.compose(text, yaml.SafeLoader), path)
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(error).replace("\n", " ")
        raise UserError(f"`{path}` is not valid YAML: {where}. Correct it there.") from error
    if not isinstance(values, Mapping):
        raise UserError(f"`{path}` must hold `name: value` lines. Compare it with configs/.")
    known = [name for name in (*kind.model_fields, *setting_flags()) if name not in OWN_KEYS]
    for name in values:
        if name in OWN_KEYS:
            raise UserError(
                f"`{name}` in `{path}` cannot be given as one: what a method can be set to stands "
                "beside everything else. Write for example `rank: 8` on a line of its own."
            )
        if name not in known:
            raise UserError(f"`{name}` in `{path}` is not a setting.{nearest(str(name), known)}")
    return dict(values)


def _refuse_repeated(root: yaml.Node | None, path: Path) -> None:
    """YAML would keep the last of several values, without a word.

    Raises:
        UserError: a key is there twice, in the file or in a setting.
    """
    inner = [value for _, value in root.value] if isinstance(root, yaml.MappingNode) else []
    for node in (root, *inner):
        lines: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise UserError(
                    f"`{name}` is in `{path}` twice, on lines {lines[name]} and {line}. "
                    "Keep one of them."
                )
            lines[name] = line

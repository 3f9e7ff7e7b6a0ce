"""Command-line flags out of a pydantic model: the model is the only place that knows an option."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from orthodiff.errors import UserError, nearest
from orthodiff.settings import validate

Model = TypeVar("Model", bound=BaseModel)
KINDS: dict[Any, str] = {
    bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", SecretStr: "TEXT"
}  # fmt: skip
LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
"""Marks of pydantic's on a field, and how the help says them."""
LONG_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""Hyphens and dashes of Unicode, from the hyphen to the minus sign."""


@dataclass(frozen=True)
class Flag:
    """One `--name`; a switch needs no value, a repeatable one collects a list.

    `kind` is what a value is: `FLOAT`, or the words to choose from, `{center,random}`.
    """

    name: str
    help: str
    is_switch: bool = False
    is_repeatable: bool = False
    kind: str = "VALUE"


def flags_of(model: type[BaseModel]) -> list[Flag]:
    """The flags of a model's fields, described by its own words."""
    return [
        Flag(
            name,
            help=_help(field),
            is_switch=field.annotation in (bool, bool | None),
            is_repeatable=get_origin(field.annotation) in (tuple, list),
            kind=kind_of(field.annotation),
        )
        for name, field in model.model_fields.items()
    ]


def parse_flags(
    flags: Iterable[Flag], arguments: Sequence[str], *, prog: str, description: str
) -> dict[str, Any]:
    """Only what the user wrote, as text: flags left out are absent.

    Raises:
        UserError: an unknown flag (the nearest known one is named), or a value is missing.
    """
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [--FLAG VALUE ...]",
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = list(flags)
    _refuse_long_dashes(arguments, known)
    for flag in known:
        _add(parser, flag)
    values, unknown = parser.parse_known_args(_underscored(arguments, known))
    if unknown:
        written = unknown[0].split("=")[0]
        hint = nearest(written.lstrip("-").replace("-", "_"), [f.name for f in known], prefix="--")
        what = "flag" if written.startswith("-") else "argument"
        raise UserError(f"`{written}` is not a known {what} of `{prog}`.{hint}")
    return vars(values)


def read_options(model: type[Model], arguments: Sequence[str], *, prog: str) -> Model:
    """The options that a command line gives.

    Raises:
        UserError: an unknown flag, or a missing or bad value.
    """
    description = model.__doc__ or ""
    return validate(
        model, parse_flags(flags_of(model), arguments, prog=prog, description=description)
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def _refuse_long_dashes(arguments: Sequence[str], known: Iterable[Flag]) -> None:
    """Refuse a flag that a text editor gave one long dash for two hyphens: no value is meant."""
    names = {flag.name for flag in known}
    for word in arguments:
        name = word.lstrip(f"-{LONG_DASHES}").partition("=")[0].replace("-", "_")
        if word[:1] in tuple(LONG_DASHES) and name in names:
            raise UserError(
                f"`{word}` begins with a long dash, as text editors put it for two hyphens. "
                f"Write --{name}."
            )


def _underscored(arguments: Sequence[str], known: Iterable[Flag]) -> list[str]:
    """Known flags written with dashes, `--num-images`, as `--num_images`."""
    dashed = {f"--{flag.name.replace('_', '-')}": f"--{flag.name}" for flag in known}
    words = (argument.partition("=") for argument in arguments)
    return [dashed.get(name, name) + equals + value for name, equals, value in words]


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    help_text = flag.help.replace("%", "%%")
    if flag.is_switch:
        parser.add_argument(
            f"--{flag.name}", nargs="?", const="true", help=help_text, metavar="BOOL"
        )
    elif flag.is_repeatable:
        parser.add_argument(
            f"--{flag.name}", nargs="+", action="extend", help=help_text, metavar=flag.kind
        )
    else:
        parser.add_argument(f"--{flag.name}", help=help_text, metavar=flag.kind)


def kind_of(annotation: Any) -> str:
    """What a value of this type is called in the help: `INT`, `PATH`, `{a,b}`."""
    if get_origin(annotation) is Literal:
        return f"{{{','.join(str(choice) for choice in get_args(annotation))}}}"
    if annotation in KINDS:
        return KINDS[annotation]
    inner = [kind_of(part) for part in get_args(annotation) if part not in (type(None), ...)]
    return "|".join(dict.fromkeys(inner)) or "VALUE"


def _help(field: FieldInfo) -> str:
    """What a flag means, the range of its value, and the value it has by default."""
    limits = [
        f"{words} {getattr(mark, name)}"
        for mark in field.metadata
        for name, words in LIMITS.items()
        if getattr(mark, name, None) is not None
    ]
    text, mark, default = (field.description or "").partition(" [")
    if field.is_required():
        default = "required]"
    elif not mark and isinstance(value := field.get_default(), str | int | float):
        default = f"{str(value).lower() if isinstance(value, bool) else value}]"
    parts = [text, f"({', '.join(limits)})" if limits else "", f"[{default}" if default else ""]
    return " ".join(part for part in parts if part)

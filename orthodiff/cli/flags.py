"""Command-line flags out of a pydantic model: the model is the only place that knows an option."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orthodiff.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Flag:
    """One `--name`; a switch needs no value, a repeatable one collects a list."""

    name: str
    help: str
    is_switch: bool = False
    is_repeatable: bool = False


def flags_of(model: type[BaseModel]) -> list[Flag]:
    """The flags of a model's fields, described by its own words."""
    return [
        Flag(
            name,
            help=_help(field.description, field.get_default()),
            is_switch=field.annotation in (bool, bool | None),
            is_repeatable=get_origin(field.annotation) in (tuple, list),
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
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = list(flags)
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


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Build the model.

    Raises:
        UserError: the first thing wrong with `values`, as one sentence with its remedy.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise UserError(_sentence(model, error.errors()[0])) from error


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """` Did you mean ...?`, or the list of what there is when it is short, or where to look."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean `{prefix}{close[0]}`?"
    if len(names) <= 12:
        return f" Known are {', '.join(names)}."
    return " See --help for all of them."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


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
            f"--{flag.name}", nargs="+", action="extend", help=help_text, metavar="VALUE"
        )
    else:
        parser.add_argument(f"--{flag.name}", help=help_text, metavar="VALUE")


def _help(description: str | None, default: Any) -> str:
    text = description or ""
    if (
        default is None
        or isinstance(default, type(...))
        or not isinstance(default, str | int | float)
    ):
        return text
    return f"{text} [{default}]"


def _sentence(model: type[BaseModel], problem: Any) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0]) if problem["loc"] else model.__name__
    if problem["type"] == "extra_forbidden":
        return f"`{name}` is not a known setting.{nearest(name, model.model_fields)}"
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

"""`orthodiff COMMAND ...`. Exit codes: 0 done, 1 failed, 2 bad request."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from orthodiff.cli.gc import leave
from orthodiff.errors import UserError, explain_os_error, nearest


class Command(NamedTuple):
    """A command: where its function is, `module:name`, and what it does.

    The function takes the words after the command's name. It returns an exit code, or None for 0.
    Named as text, it is imported only when the command is used: the library imports no trainer.
    """

    function: str
    summary: str


EXTRAS = {
    "accelerate": "train",
    "fastapi": "studio",
    "gradio": "studio",
    "psutil": "train",
    "ray": "cluster",
    "sqlalchemy": "studio",
}
"""What a plain installation lacks, and the extra that brings it."""

COMMANDS = {
    "generate": Command(
        "orthodiff.cli.generate:generate_command", "make images with a base model and an adapter"
    ),
    "grid": Command("orthodiff.cli.grid:grid_command", "draw images over two or three axes"),
    "reproduce": Command(
        "orthodiff.cli.reproduce:reproduce_command", "make an image again, and compare the bits"
    ),
    "evaluate": Command(
        "orthodiff.cli.evaluate:evaluate_command",
        "compare base and adapted over many prompts: grid.png and report.json",
    ),
    "evaluate-control": Command(
        "orthodiff.cli.evaluate_control:evaluate_control_command",
        "measure how images follow control images: grid.png and report.json",
    ),
    "evaluate-generated": Command(
        "orthodiff.cli.evaluate_generated:evaluate_generated_command",
        "score a finished batch: scores.json (also `evaluate --generated DIR`)",
    ),
    "inspect": Command(
        "orthodiff.cli.inspect:inspect_command", "show what an adapter or an exported file holds"
    ),
    "compose": Command(
        "orthodiff.cli.merge:compose_command", "write two adapters as one, composed or blended"
    ),
    "export": Command(
        "orthodiff.cli.export:export_command",
        "write an adapter as a LoRA or as weight differences for other tools",
    ),
    "merge": Command(
        "orthodiff.cli.merge:merge_command", "write a whole model with the adapter in its weights"
    ),
    "train": Command("orthodiff.training.cli.main:main", "train an adapter: dreambooth or control"),
    "check": Command(
        "orthodiff.training.cli.check:run_check", "report on a folder of images before any training"
    ),
    "studio": Command("orthodiff.studio.cli:main", "open the web page"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0
    try:
        code = _function(words[0])(words[1:]) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        if (sentence := explain_os_error(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(
            f"error: `orthodiff {words[0]}` needs {error.name}, which is not installed. "
            f"Run `pip install 'orthodiff[{EXTRAS[error.name]}]'`.",
            file=sys.stderr,
        )
        return 2


def run() -> None:
    """The console script `orthodiff`."""
    leave(main())


def _reader_gone() -> int:
    """Nobody reads the output any more, as in `orthodiff inspect ... | head -1`: be done quietly.

    What is still in the buffer must not fail when the program ends, so it goes nowhere.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return 0


def usage() -> str:
    """The commands there are."""
    lines = "".join(f"  {name:<19} {command.summary}\n" for name, command in COMMANDS.items())
    return (
        f"usage: orthodiff COMMAND [--FLAG VALUE ...]\n\ncommands:\n{lines}\n"
        "See `orthodiff COMMAND --help` for the flags of each.\n"
    )


def _function(name: str) -> Callable[[Sequence[str]], int | None]:
    if name not in COMMANDS:
        raise UserError(f"`{name}` is not a command.{nearest(name, COMMANDS)}")
    module, _, function = COMMANDS[name].function.partition(":")
    return getattr(import_module(module), function)

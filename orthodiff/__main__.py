"""`python -m orthodiff COMMAND ...`: use a trained adapter. Exit codes: 0 done, 2 bad request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from orthodiff.errors import UserError
from orthodiff.flags import nearest
from orthodiff.garbage import leave

USAGE = """usage: python -m orthodiff COMMAND [--FLAG VALUE ...]

commands:
  generate          make pictures with a base model and an adapter
  evaluate          compare base and adapted over many prompts: grid.png and report.json
  evaluate-control  see and measure how pictures follow maps: grid.png and report.json
  inspect           say what an adapter folder or an exported file holds
  export            write an adapter as a LoRA or weight differences for other tools
  merge             write a whole model with the adapter in its weights

See `python -m orthodiff COMMAND --help` for the flags of each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    try:
        _command(words[0])(words[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _command(name: str) -> Callable[[Sequence[str]], None]:
    from orthodiff import commands, export_commands

    known = {
        "generate": commands.generate_command,
        "evaluate": commands.evaluate_command,
        "evaluate-control": commands.evaluate_control_command,
        "inspect": commands.inspect_command,
        "export": export_commands.export_command,
        "merge": export_commands.merge_command,
    }
    if name not in known:
        raise UserError(f"`{name}` is not a command.{nearest(name, known)}")
    return known[name]


if __name__ == "__main__":
    leave(main())

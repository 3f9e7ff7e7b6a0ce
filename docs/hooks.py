"""Pages of the site that are made from the code: commands, Python, events. A hook of mkdocs.

They are made when the site is built, so that they are never older than the code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
IMAGES = "assets/pictures"
OPTION = re.compile(r"^  (--\w+)(?: (.*?))?(?:\s{2,}(\S.*))?$")
NEAR = 24
"""Columns before the help of an option, as argparse lays it out."""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the images, which lie outside of `docs/`."""
    for path in sorted((ROOT / IMAGES).iterdir()):
        name = f"{IMAGES}/{path.name}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, page in (("commands", commands), ("python", python), ("events", events)):
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to images to where they lie within the site."""
    return re.sub(rf"\]\(\.\./((?:\.\./)*){IMAGES}/", rf"](\1{IMAGES}/", markdown)


def commands() -> str:
    """Every command with every flag, from its own help."""
    from orthodiff.cli.main import COMMANDS
    from orthodiff.cli.main import main as orthodiff
    from orthodiff.training.cli.main import COMMANDS as OTHERS
    from orthodiff.training.cli.main import main as train
    from orthodiff.training.tasks import TASKS

    lines = [
        "# Commands",
        "",
        "Generated from the code; `--help` says the same. A list such as `VALUE [VALUE ...]` takes",
        "several values. Any flag of a training can stand in its YAML file.",
    ]
    for name, command in COMMANDS.items():
        lines += ["", f"## orthodiff {name}", "", f"{_sentence(command.summary)}"]
        if name == "train":
            tasks = {task.name: task.summary for task in TASKS.values()}
            tasks |= {task: summary for task, summary in OTHERS.items() if task not in COMMANDS}
            for task, summary in tasks.items():
                lines += ["", f"### orthodiff train {task}", "", _sentence(summary), ""]
                lines += _table(_printed(train, [task, "--help"]))
        else:
            lines += ["", *_table(_printed(orthodiff, [name, "--help"]))]
    return "\n".join(lines) + "\n"


def python() -> str:
    """Every public name with its signature and documentation."""
    import orthodiff
    from orthodiff.io.png_metadata import ImageRecipe

    lines = ["# Python", "", "Generated from the code: `import orthodiff`, then these names.", ""]
    for name in orthodiff.__all__:
        thing = getattr(orthodiff, name)
        lines += [f"## {name}", ""]
        if isinstance(thing, Mapping):
            lines += [f"Open registry. It has {', '.join(f'`{key}`' for key in thing)}.", ""]
            continue
        if not callable(thing):
            lines += ["```python", f"{name} = {thing!r}", "```", ""]
            continue
        lines += ["```python", f"{name}{_signature(thing)}", "```", "", _documentation(thing), ""]
        if inspect.isclass(thing):
            lines += _methods(thing)
    lines += ["## Recipe", "", "What every PNG carries.", "", *_fields(ImageRecipe)]
    return "\n".join(lines) + "\n"


def events() -> str:
    """Every event that a run writes."""
    from orthodiff.training.events.log import Event

    lines = [
        "# Events",
        "",
        "A run writes `events.jsonl`, one JSON object a line, with `event` (the name below),",
        "`time` (seconds since 1970) and these fields. The file alone says how a run stands.",
        "",
    ]
    for event in get_args(Event):
        lines += [f"## {event.__name__}", ""]
        text = inspect.getdoc(event) or ""
        if not text.startswith(f"{event.__name__}("):  # what dataclass writes where nothing stands
            lines += [text, ""]
        lines += [*_fields(event), ""]
    return "\n".join(lines) + "\n"


def _printed(command: Callable[[Sequence[str]], Any], words: Sequence[str]) -> str:
    """What a command prints."""
    os.environ["COLUMNS"] = "400"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command(words)
    return printed.getvalue()


def _table(text: str) -> list[str]:
    """The options of a help as a table, or the help as it is where it has another form."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        match = OPTION.match(line)
        if match:
            rows.append([part or "" for part in match.groups()])
        elif rows and line.startswith(" " * NEAR):
            rows[-1][2] = f"{rows[-1][2]} {line.strip()}".strip()
    if not rows:
        return ["```", text.rstrip(), "```"]
    cells = [(f"`{flag}`", f"`{value}`" if value else "", help) for flag, value, help in rows]
    return _markdown(("flag", "value", "meaning"), cells)


def _fields(kind: Any) -> list[str]:
    """The fields of a dataclass as a table."""
    hints = get_type_hints(kind)
    rows = []
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        required = required and field.default_factory is dataclasses.MISSING
        default = "" if required or callable(field.default_factory) else f"`{field.default!r}`"
        rows.append((f"`{field.name}`", f"`{_type(hints[field.name])}`", default))
    return _markdown(("field", "type", "default"), rows)


def _methods(kind: type) -> list[str]:
    lines = []
    for name, member in vars(kind).items():
        inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(inner) or not inner.__doc__:
            continue
        call = "" if isinstance(member, property) else _signature(getattr(kind, name))
        lines += [f"**`{name}{call}`**", "", _documentation(inner), ""]
    return lines


class _Raw(str):
    """A postponed annotation, shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return "(message)"
    signature = inspect.signature(thing)
    parameters = [
        each.replace(annotation=_raw(each.annotation)) for each in signature.parameters.values()
    ]
    returned = _raw(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _raw(annotation: Any) -> Any:
    return _Raw(annotation) if isinstance(annotation, str) else annotation


def _documentation(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return re.sub(r"^Raises:\n((?:    .*\n?)+)", _raises, text, flags=re.MULTILINE)


def _raises(match: re.Match[str]) -> str:
    lines = inspect.cleandoc(match[1]).splitlines()
    return "Raises:\n\n" + "\n".join(f"- {line}" if ":" in line else f"  {line}" for line in lines)


def _type(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        escaped = (cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
        return f"| {' | '.join(escaped)} |"

    return [line(head), f"|{'---|' * len(head)}", *map(line, rows)]

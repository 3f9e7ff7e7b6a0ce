r"""Templates in prompts: `{a|b|c}`, `$name` of a list, `__name__` of a file, `{trigger}`.

The order is the order of writing, so that the same file gives the same prompts. A `$name` has one
value within a row, wherever it stands; other alternatives are independent. `\{`, `\$` and `\__`
stand for themselves.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orthodiff.errors import UserError, nearest

TRIGGER = "\x00trigger\x00"
"""Stands in an expanded prompt for what calls up the adapter, which is not known yet."""
MOST = 1_000_000
_NAME = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_WILDCARD = re.compile(r"__([A-Za-z0-9][\w/-]*?)__")
Combine = Literal["product", "zip"]


@dataclass
class Sources:
    """Where `$name` and `__name__` come from: lists, and a folder of text files."""

    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folder: Path | None = None

    def listed(self, name: str) -> Sequence[str]:
        """The values of a list.

        Raises:
            UserError: there is none of that name, or it is empty.
        """
        if name not in self.lists:
            hint = nearest(name, self.lists, prefix="$") if self.lists else ""
            raise UserError(
                f"`${name}` is not a known list.{hint} Give it with --lists {name}=A,B,C, or write "
                rf"\${name} for the letters themselves."
            )
        if not self.lists[name]:
            raise UserError(f"The list `${name}` is empty. Give it values.")
        return self.lists[name]

    def wildcard(self, name: str) -> list[str]:
        """The lines of a wildcard's file.

        Raises:
            UserError: there is no such file, or nothing in it.
        """
        there = sorted(_stems(self.folder)) if self.folder else []
        if name not in there:
            where = f"`{self.folder}` has none of that name" if self.folder else "no folder is set"
            hint = nearest(name, there) if there else ""
            raise UserError(
                f"`__{name}__` is not a known wildcard: {where}.{hint} Give a folder that holds "
                f"{name}.txt with --wildcards, or write \\__{name}__ for the letters themselves."
            )
        assert self.folder is not None
        path = self.folder / f"{name}.txt"
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The wildcard file `{path}` cannot be read ({error}).") from error
        values = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not values:
            raise UserError(f"The wildcard file `{path}` is empty. Write one value per line.")
        return values


def expand(texts: Sequence[str], sources: Sources, *, combine: Combine = "product") -> Expansion:
    """All forms of some texts of one row, such as its prompt and negative prompt, together.

    Raises:
        UserError: a template cannot be read, or lists of different lengths are to be zipped.
    """
    points = _Points(sources)
    parsed = [points.parse(text, ()) for text in texts]
    return Expansion(parsed, [tuple(values) for values in points.values], combine)


class Expansion:
    """The forms of a row's texts, made as they are asked for."""

    def __init__(
        self, parsed: list[list[str | int]], values: list[tuple[str, ...]], combine: Combine
    ) -> None:
        self.parsed, self.values, self.combine = parsed, values, combine
        if combine == "zip":
            self._check_lengths()
        if self.count > MOST:
            raise UserError(
                f"A row has {self.count:,} forms. Use fewer alternatives, or --combine zip."
            )

    @property
    def count(self) -> int:
        """How many forms there are."""
        lengths = [len(values) for values in self.values]
        return math.prod(lengths) if self.combine == "product" else max(lengths, default=1)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        combined: Iterator[tuple[str, ...]] = (
            itertools.product(*self.values)
            if self.combine == "product"
            else iter(zip(*(v if len(v) > 1 else v * self.count for v in self.values), strict=True))
        )
        for chosen in combined if self.values else iter([()]):
            yield tuple(
                "".join(part if isinstance(part, str) else chosen[part] for part in text)
                for text in self.parsed
            )

    def _check_lengths(self) -> None:
        lengths = {len(values) for values in self.values} - {1}
        if len(lengths) > 1:
            raise UserError(
                f"Alternatives of {' and '.join(map(str, sorted(lengths)))} values cannot be "
                "zipped. Give all the same number, or use --combine product."
            )


class _Points:
    """The places of some texts where a value is chosen, and the values of each."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.values: list[list[str]] = []
        self.names: dict[str, int] = {}

    def parse(self, text: str, within: tuple[str, ...]) -> list[str | int]:
        """Literal parts, and the numbers of points; `within` are the wildcards being read."""
        parts: list[str | int] = []
        place = 0
        while place < len(text):
            part, place = self._next(text, place, within)
            parts.append(part)
        return parts

    def _next(self, text: str, place: int, within: tuple[str, ...]) -> tuple[str | int, int]:
        if text[place] == "\\" and place + 1 < len(text):
            length = 2 if text.startswith("__", place + 1) else 1
            escaped = text[place + 1 : place + 1 + length]
            if escaped[0] in "{}$|\\" or length == 2:
                return escaped, place + 1 + length
        if text[place] == "{":
            return self._braces(text, place, within)
        if match := _NAME.match(text, place):
            return self._named(match[1] or match[2], within), match.end()
        if match := _WILDCARD.match(text, place):
            return self._new(self._wildcard(match[1], within)), match.end()
        return text[place], place + 1

    def _braces(self, text: str, place: int, within: tuple[str, ...]) -> tuple[str | int, int]:
        options, end = _split_braces(text, place)
        if len(options) == 1:
            if options[0].strip() == "trigger":
                return TRIGGER, end
            raise UserError(
                f"`{text[place:end]}` offers no alternatives. Write {{a|b}} for a choice, "
                r"{trigger} for the adapter's words, or \{ for the brace itself."
            )
        values = [form for option in options for form in self._forms(option, within)]
        return self._new(values), end

    def _named(self, name: str, within: tuple[str, ...]) -> int:
        if name not in self.names:
            key = f"${name}"
            if key in within:
                raise UserError(f"The list `{key}` contains itself. Take it out.")
            listed = self.sources.listed(name)
            forms = [form for value in listed for form in self._forms(value, (*within, key))]
            self.names[name] = self._new(forms)
        return self.names[name]

    def _wildcard(self, name: str, within: tuple[str, ...]) -> list[str]:
        if name in within:
            raise UserError(f"The wildcard `__{name}__` contains itself. Take it out of its file.")
        lines = self.sources.wildcard(name)
        return [form for line in lines for form in self._forms(line, (*within, name))]

    def _forms(self, text: str, within: tuple[str, ...]) -> list[str]:
        """All forms of an alternative, which may hold templates itself."""
        inner = _Points(self.sources)
        parsed = inner.parse(text, within)
        return [
            form for (form,) in Expansion([parsed], [tuple(v) for v in inner.values], "product")
        ]

    def _new(self, values: list[str]) -> int:
        self.values.append(values)
        return len(self.values) - 1


def _split_braces(text: str, start: int) -> tuple[list[str], int]:
    """The alternatives between braces that open at `start`, and where they end."""
    depth, options, place = 0, [""], start
    while place < len(text):
        letter = text[place]
        if letter == "\\" and place + 1 < len(text):
            options[-1] += text[place : place + 2]
            place += 2
            continue
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return options, place + 1
        if letter == "|" and depth == 1:
            options.append("")
        elif not (letter == "{" and depth == 1):
            options[-1] += letter
        place += 1
    raise UserError(
        rf"`{text[start:][:40]}` opens a brace that is not closed. Add }} or write \{{."
    )


def _stems(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.txt"):
        yield path.relative_to(folder).with_suffix("").as_posix()

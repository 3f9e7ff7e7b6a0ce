"""The mutants of some files: made by cosmic-ray, without those that change nothing of note."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from .operators import SELECTED

NO_MUTANT = "pragma: no mutate"
COSMETIC_CALLS = re.compile(r"(warnings\.)?warn\(|(log|logger|LOG|_log)\.\w+\(|print\(")
COSMETIC_STATEMENTS = re.compile(
    r"__all__\b|__slots__\b|from |import |if TYPE_CHECKING|if __name__\b|LOG\.|log\.|logger\."
)
COSMETIC_DECORATORS = re.compile(r"@(\w+\.)*(overload|override|abstractmethod|cache|lru_cache)\b")
COSMETIC_KEYWORDS = ("frozen", "slots", "kw_only", "repr", "strict", "stacklevel", "eq")
"""Of dataclasses, zip and warnings: guards, which act only where other code is wrong."""


ANNOTATION = {"annassign": 1, "tfpdef": 2}
"""Which child is the type, in `x: int = 1` and in a parameter."""


@dataclass(frozen=True)
class Mutant:
    """The `occurrence`-th place of an operator in a file; `lines` are those of its statement."""

    path: str
    operator: str
    occurrence: int
    line: int
    lines: tuple[int, ...]

    def code(self, source: str) -> str | None:
        """The file with the wrong line."""
        return mutate_code(source, get_operator(self.operator)(), self.occurrence)


def mutants_of(paths: Iterable[Path]) -> list[Mutant]:
    """Every mutant of the selected operators, in the order of the files and lines."""
    every = [mutant for path in paths for mutant in _in_file(path)]
    return sorted(every, key=lambda m: (m.path, m.line, m.operator, m.occurrence))


def sample(mutants: Sequence[Mutant], count: int | None, seed: int) -> list[Mutant]:
    """So many of them by chance, or all; the same ones for the same seed."""
    if count is None or count >= len(mutants):
        return list(mutants)
    chosen = random.Random(seed).sample(range(len(mutants)), count)
    return [mutants[number] for number in sorted(chosen)]


def _in_file(path: Path) -> Iterator[Mutant]:
    source = path.read_text("utf-8")
    rows, nodes = source.splitlines(), list(ast_nodes(get_ast(source)))
    for name in filter(SELECTED.match, operator_names()):
        operator = get_operator(name)()
        places = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, (line, column)) in enumerate(places):
            if NO_MUTANT in rows[line - 1] or _is_star(rows[line - 1], column):
                continue
            if not _is_cosmetic(node):
                yield Mutant(str(path), name, occurrence, line, _lines(node, line))


def _is_star(row: str, column: int) -> bool:
    """cosmic-ray takes the stars of `def f(x, *, y)` and `f(*x)` for products."""
    return row[column] == "*" and row[column + 1 : column + 2] not in (" ", "*", "=")


def _is_cosmetic(node: Any) -> bool:
    """Whether it stands in a type, a message, a log entry, or a guard."""
    child, parent = node, node.parent
    if node.type in ("decorator", "decorators"):
        return bool(COSMETIC_DECORATORS.match(node.get_code().strip()))
    if COSMETIC_STATEMENTS.match(node.get_code().strip()):
        return True
    while parent is not None:
        kind = parent.type
        if kind in ("annassign", "tfpdef") and child is parent.children[ANNOTATION[kind]]:
            return True
        if kind == "funcdef" and child is parent.annotation:
            return True
        if kind in ("raise_stmt", "assert_stmt", "import_from"):
            return True
        if kind == "argument" and parent.children[0].get_code().strip() in COSMETIC_KEYWORDS:
            return True
        if kind == "trailer" and COSMETIC_CALLS.match(parent.parent.get_code().strip()):
            return True
        if kind == "expr_stmt" and COSMETIC_STATEMENTS.match(parent.get_code().strip()):
            return True
        child, parent = parent, parent.parent
    return False


def _lines(node: Any, line: int) -> tuple[int, ...]:
    """From the first line of the statement to the place itself: one of them is noted as run."""
    while node.parent is not None and node.parent.type not in ("file_input", "suite"):
        node = node.parent
    return tuple(range(node.start_pos[0], line + 1))

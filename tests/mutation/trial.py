"""Tries the mutants of one module: chooses tests, runs them, keeps what they say."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from .forks import Ended, mutate
from .lines import LinesOfTests
from .mutants import Mutant
from .patch import NotPatchableError, changed
from .report import Verdict, Verdicts

Run = Callable[[str, str, str, Sequence[str]], Ended]
"""Runs tests: the path of a file, its text before and after, the tests."""


class Trial:
    """Some mutants of a module, and the file of their verdicts.

    `budget` is how many seconds of tests one mutant gets at most: those that killed others of the
    file come first, then the quickest.
    """

    def __init__(
        self, lines: LinesOfTests, mutants: Sequence[Mutant], verdicts: Path, budget: float
    ) -> None:
        self.lines, self.mutants, self.budget = lines, mutants, budget
        self.verdicts = Verdicts(verdicts)
        self.source = {m.path: Path(m.path).read_text("utf-8") for m in mutants}

    def inside_functions(self, run: Run, tests: Collection[str]) -> None:
        """Try those that change the inside of a function only."""
        for mutant, text in self._pending():
            try:
                changed(mutant.path, self.source[mutant.path], text)
                able = self.lines.of(mutant.path, mutant.lines)
                self._try(mutant, text, self._choose(mutant, able & set(tests)), run)
            except NotPatchableError:
                continue

    def at_import(self, run: Run, tests: Collection[str]) -> None:
        """Try what is left: mutants that act when their module is imported."""
        for mutant, text in self._pending():
            able = self.lines.of_file(mutant.path)
            self._try(mutant, text, self._choose(mutant, able & set(tests)), run)

    def _pending(self) -> Iterator[tuple[Mutant, str]]:
        for mutant in self.mutants:
            text = mutant.code(self.source[mutant.path])
            if text and not self.verdicts.has(mutant.path, mutant.operator, mutant.occurrence):
                yield mutant, text

    def _choose(self, mutant: Mutant, able: Collection[str]) -> list[str]:
        killers, seconds = self.verdicts.killers, self.lines.seconds
        chosen, total = [], 0.0
        for name in sorted(able, key=lambda n: (-killers[mutant.path, n], seconds[n], n)):
            total += seconds[name]
            if chosen and total > self.budget:
                break
            chosen.append(name)
        return chosen

    def _try(self, mutant: Mutant, text: str, tests: list[str], run: Run) -> None:
        path, before = Path(mutant.path), self.source[mutant.path]
        ended = Ended(0, "", 0.0)
        if tests:
            restore = mutate(path, text)
            try:
                ended = run(mutant.path, before, text, tests)
            finally:
                restore()
        killer = ended.said or ("" if ended.code == 0 else f"exit code {ended.code}")
        place = (mutant.path, mutant.line, mutant.operator, mutant.occurrence)
        result = (ended.code != 0, killer, len(tests), round(ended.seconds, 2))
        self.verdicts.add(Verdict(*place, *result, _difference(before, text)))


def _difference(before: str, after: str) -> str:
    """The lines that differ."""
    rows = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(row for row in list(rows)[2:] if not row.startswith("@@"))

"""A pytest session that has collected all tests, and runs some of them in forks of itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from .forks import Ended, in_fork
from .lines import LinesOfTests, measure
from .patch import Functions, NotPatchableError

QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-W",
         "ignore::pytest.PytestAssertRewriteWarning")  # fmt: skip
"""Options of pytest; that plugins were imported before is no matter."""
NOT_PATCHABLE = 77
"""The exit code of a fork in which the wrong code could not be put into functions."""


class Warm:
    """Hands itself to `work` once everything is imported and collected."""

    def __init__(self, lines: LinesOfTests, work: Callable[[Warm], None]) -> None:
        self.lines, self.work = lines, work
        self.items: dict[str, Any] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.functions = Functions(Path.cwd())
        sys.dont_write_bytecode = True
        with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            self._measure_all()
            self.work(self)
        return True

    def _measure_all(self) -> None:
        """Find out which lines the tests run, file by file, where that is not known."""
        files = sorted({item.path for item in self.items.values()})
        for number, file in enumerate(files, 1):
            if not self.lines.file(file).exists():
                ended = in_fork(lambda _, file=file: self._measure(file), limit=3600)
                how = f"{ended.seconds:.0f} s" if ended.code == 0 else f"failed: {ended}"
                print(f"Lines that {file.name} runs ({number} of {len(files)}): {how}", flush=True)
        self.lines.read(files)

    def _measure(self, file: Path) -> int:
        items = [item for item in self.items.values() if item.path == file]
        seconds, failed = {}, []

        def run(begins: Callable[[str], object]) -> None:
            for item, following in zip(items, [*items[1:], None], strict=True):
                begins(item.nodeid)
                began = sum(os.times()[:4])
                if not _passes(item, following):
                    failed.append(item.nodeid)
                seconds[item.nodeid] = sum(os.times()[:4]) - began

        measured = measure(run, Path.cwd())
        measured.seconds, measured.failed = seconds, failed
        self.lines.write(file, measured)
        return 0

    def run(self, path: str, before: str, after: str, tests: Sequence[str]) -> Ended:
        """Run tests where the functions of a file are those of `after`; the first failure is said.

        Raises:
            NotPatchableError: it takes an import to see the difference.
        """
        items = [self.items[name] for name in tests]

        def run(say: Callable[[str], object]) -> int:
            try:
                self.functions.patch(str(Path(path).resolve()), before, after)
            except NotPatchableError:
                return NOT_PATCHABLE
            for item, following in zip(items, [*items[1:], None], strict=True):
                if not _passes(item, following):
                    say(item.nodeid)
                    return 1
            return 0

        ended = in_fork(run, limit=limit(self.lines, tests))
        if ended.code == NOT_PATCHABLE:
            raise NotPatchableError(path)
        return ended


class _Killer:
    """Says which test fails."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.say(report.nodeid)


def run_cold(lines: LinesOfTests, tests: Sequence[str]) -> Ended:
    """Run tests in a fork that imports our code itself."""

    def run(say: Callable[[str], object]) -> int:
        return int(pytest.main(["-x", *QUIET, *tests], plugins=[_Killer(say)]))

    return in_fork(run, limit=limit(lines, tests) + 60)


def limit(lines: LinesOfTests, tests: Sequence[str]) -> float:
    """Seconds after which tests are taken to hang: generous, as other work may slow them down."""
    return 60 + 20 * sum(lines.seconds[name] for name in tests)


def _passes(item: Any, following: Any) -> bool:
    """Whether neither the test nor what it needs fails."""
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))

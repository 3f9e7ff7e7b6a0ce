"""Runs the tests that can notice a mutant, in a fork of this process."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest

LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Plugins that were imported before are no matter."""
SHARE = 60.0
"""Seconds of tests for one mutant at most, the quickest first."""


class Runner:
    """What `lines` found out, and the files before any mutation."""

    def __init__(self, found: Path, sources: Iterable[Path]) -> None:
        told = json.loads(found.read_text("utf-8"))
        self.lines: dict[str, dict[str, list[str]]] = told["lines"]
        self.seconds: dict[str, float] = told["seconds"]
        self.original = {path: path.read_text("utf-8") for path in sources}
        _load(told["modules"])

    def tests_of(self, path: Path) -> list[str]:
        """The tests that run a changed line, or the file if it is only run by an import."""
        known = self.lines.get(str(path), {})
        changed = _changed_lines(self.original[path], path.read_text("utf-8"))
        names = {name for line in changed for name in known.get(str(line), ())}
        names = names or {name for some in known.values() for name in some}
        chosen, total = [], 0.0
        for name in sorted(names, key=lambda name: (self.seconds[name], name)):
            total += self.seconds[name]
            if chosen and total > SHARE:
                break
            chosen.append(name)
        return chosen

    def notices(self, path: Path) -> bool:
        """Whether a test fails or does not end, with the file as it is now."""
        tests = self.tests_of(path)
        return bool(tests) and self._fails(tests)

    def check(self) -> None:
        """Run the tests with nothing mutated: they must pass, or every mutant would seem killed.

        Raises:
            SystemExit: they fail.
        """
        known = [name for path in self.original for name in self.tests_of(path)]
        if known and self._fails(sorted(set(known)), quiet=False):
            sys.exit("The tests fail in a fork without any mutation, so nothing can be said.")

    def _fails(self, tests: list[str], *, quiet: bool = True) -> bool:
        limit = 30 + 5 * sum(self.seconds[name] for name in tests)
        child = os.fork()
        if not child:
            _run(tests, quiet=quiet)
        until = time.monotonic() + limit
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) != 0
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True


def _run(tests: list[str], *, quiet: bool) -> None:
    """In the fork: run the tests and end with their exit code, whatever happens."""
    code = 3
    try:
        os.setpgid(0, 0)
        if quiet:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *LOADED, *tests]))
    finally:
        os._exit(code)


def _load(modules: Iterable[str]) -> None:
    """Import what the tests import from elsewhere, so that forks have it already."""
    sys.path.insert(0, os.getcwd())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _changed_lines(before: str, after: str) -> set[int]:
    """The lines of `before` that are others in `after`."""
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return {
        line + 1
        for tag, start, stop, _, _ in matcher.get_opcodes()
        if tag != "equal"
        for line in range(start, max(stop, start + 1))
    }

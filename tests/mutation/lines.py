"""Which tests run which line: `python -m tests.mutation.lines OUT TEST ...` in a tree's root."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest

SOURCES = ("orthodiff", "training", "studio")


class Contexts:
    """Tells coverage which test runs, and notes how long it takes."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measured.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - began
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)


def main(out: Path, tests: Sequence[str]) -> int:
    """Run the tests, and write for every file and line the tests that ran it."""
    measured = coverage.Coverage(data_file=None, include=[f"{name}/*" for name in SOURCES])
    contexts = Contexts(measured)
    measured.start()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[contexts]))
    measured.stop()
    data, root = measured.get_data(), Path.cwd()
    lines = {
        str(Path(file).relative_to(root)): {
            line: sorted(set(names) - {""} - contexts.failed)
            for line, names in data.contexts_by_lineno(file).items()
        }
        for file in sorted(data.measured_files())
    }
    loaded = sorted(
        name
        for name in sys.modules
        if name.split(".")[0] not in {*SOURCES, "tests", "conftest", "benchmarks", "pocket"}
    )
    found = {"lines": lines, "seconds": contexts.seconds, "modules": loaded}
    out.write_text(json.dumps(found), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

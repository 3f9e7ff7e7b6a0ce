"""Which tests run which line, kept by test file, so that only changed test files are run again."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = ("orthodiff", "training", "studio", "pocket")


@dataclass
class Measured:
    """What one run of a test file showed: by source and line the tests, and their seconds."""

    lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The hash of each source at that time; the text itself is kept beside."""


class LinesOfTests:
    """The notes of all test files in a folder.

    When a source has changed since, its lines are followed to where they stand now: a test that ran
    a line then is taken to run it still. Delete the folder to have everything measured again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self._tests: dict[str, dict[int, set[str]]] = {}
        (folder / "sources").mkdir(parents=True, exist_ok=True)

    def file(self, test_file: Path) -> Path:
        """Where the notes of a test file as it is now lie."""
        return self.folder / f"{test_file.stem}-{_hash(test_file.read_text('utf-8'))}.json"

    def write(self, test_file: Path, measured: Measured) -> None:
        """Keep what was measured, and the sources as they are."""
        for path in measured.lines:
            text = Path(path).read_text("utf-8")
            measured.texts[path] = _hash(text)
            (self.folder / "sources" / _hash(text)).write_text(text, "utf-8")
        self.file(test_file).write_text(json.dumps(vars(measured)), "utf-8")

    def read(self, test_files: Iterable[Path]) -> None:
        """Put together the notes of these test files, as far as there are any."""
        for file in filter(Path.exists, map(self.file, test_files)):
            measured = Measured(**json.loads(file.read_text("utf-8")))
            self.seconds |= measured.seconds
            for path, lines in measured.lines.items():
                if Path(path).exists():
                    self._add(path, lines, measured)

    def _add(self, path: str, lines: dict[str, list[str]], measured: Measured) -> None:
        before = (self.folder / "sources" / measured.texts[path]).read_text("utf-8")
        now, failed = _moved(before, Path(path).read_text("utf-8")), set(measured.failed)
        known = self._tests.setdefault(path, {})
        for line, names in lines.items():
            if int(line) in now:
                known.setdefault(now[int(line)], set()).update(set(names) - failed)

    def of(self, path: str, lines: Iterable[int]) -> set[str]:
        """The tests that run one of these lines."""
        known = self._tests.get(path, {})
        return {name for line in lines for name in known.get(line, ())}

    def of_file(self, path: str) -> set[str]:
        """The tests that run anything in a file."""
        return self.of(path, self._tests.get(path, {}))


def measure(run: Callable[[Callable[[str], object]], None], root: Path) -> Measured:
    """Call `run` with a function that is told which test begins, and note the lines it runs."""
    import coverage

    measured = coverage.Coverage(
        data_file=None, config_file=False, include=[f"{root}/{name}/*" for name in SOURCES]
    )
    measured.start()
    run(measured.switch_context)
    measured.stop()
    data = measured.get_data()
    return Measured(lines=dict(_by_line(data, root)))


def _by_line(data: object, root: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    for file in sorted(data.measured_files()):  # type: ignore[attr-defined]
        contexts = data.contexts_by_lineno(file)  # type: ignore[attr-defined]
        lines = {str(line): sorted(set(names) - {""}) for line, names in contexts.items()}
        yield str(Path(file).relative_to(root)), {k: v for k, v in lines.items() if v}


def _moved(before: str, now: str) -> dict[int, int]:
    """Where the lines of a text stand in a later one."""
    if before == now:
        return {number: number for number in range(1, before.count("\n") + 2)}
    rows = before.splitlines(), now.splitlines()
    return {
        start + shift + 1: place + shift + 1
        for start, place, size in difflib.SequenceMatcher(None, *rows, False).get_matching_blocks()
        for shift in range(size)
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""What became of the mutants: kept while it is found out, and said in a table."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """Of one mutant: what killed it, or nothing; `killer` is a test, or why there is none."""

    path: str
    line: int
    operator: str
    occurrence: int
    killed: bool
    killer: str
    tests: int
    seconds: float
    diff: str


class Verdicts:
    """A file of JSON lines, to which one is added for each mutant."""

    def __init__(self, file: Path) -> None:
        self.file = file
        rows = file.read_text("utf-8").splitlines() if file.exists() else []
        self.all = [Verdict(**json.loads(row)) for row in rows]
        self.killers = Counter((v.path, v.killer) for v in self.all if v.killed)

    def add(self, verdict: Verdict) -> None:
        """Keep one more."""
        self.all.append(verdict)
        if verdict.killed:
            self.killers[verdict.path, verdict.killer] += 1
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(verdict)) + "\n")

    def has(self, path: str, operator: str, occurrence: int) -> bool:
        """Whether one of this mutant is there."""
        return any(
            (v.path, v.operator, v.occurrence) == (path, operator, occurrence) for v in self.all
        )


def interval(killed: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval: where the rate of all mutants lies, with 95 % for a random sample."""
    if not total:
        return 0.0, 1.0
    rate, share = killed / total, z * z / total
    middle = (rate + share / 2) / (1 + share)
    half = z * math.sqrt(rate * (1 - rate) / total + share / total / 4) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def table(verdicts: Iterable[Verdict], of_all: int) -> str:
    """Survivors with their difference, then the rate by file and in all."""
    every = list(verdicts)
    lines = [
        f"\nsurvived  {v.path}:{v.line}  {v.operator}  ({v.tests} tests)\n{v.diff}"
        for v in every
        if not v.killed
    ]
    lines.append(f"\n{'killed':>8} {'of':>5}")
    for path in sorted({v.path for v in every}):
        lines.append(_row([v for v in every if v.path == path], path))
    low, high = interval(sum(v.killed for v in every), len(every))
    among = "all mutants" if len(every) == of_all else f"{of_all} mutants"
    lines.append(_row(every, f"in all; {low:.1%} to {high:.1%} of {among}"))
    return "\n".join(lines)


def _row(verdicts: list[Verdict], name: str) -> str:
    killed = sum(v.killed for v in verdicts)
    return f"{killed:>8} {len(verdicts):>5}  {killed / max(len(verdicts), 1):6.1%}  {name}"

"""The script of eight minutes: what a CPU cannot prove, proven on any CUDA machine.

    python -m benchmarks.gpu --minutes 8 --json FILE

Each check runs in a process of its own and is ended when its time is over, so the script ends in
time whatever hangs. It prints one table, with what was expected, and saves all figures as JSON.
`--tiny` tries it in about a minute, on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from benchmarks.support.gpu_checks import CHECKS, EXPECTED
from benchmarks.support.gpu_setting import Setting

ROOT = Path(__file__).parent.parent
SHARE = 0.4
"""Of the time that is left, so much may one check take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; the exit code is 1 where one was wrong or did not end."""
    options = parse(arguments)
    setting = Setting(options.device, options.tiny)
    if options.one:
        print(json.dumps(CHECKS[options.one](setting)))
        return 0
    begun, results = time.monotonic(), {}
    for name in options.only or CHECKS:
        left = options.minutes * 60 - (time.monotonic() - begun)
        results[name] = run(name, setting, seconds=left * SHARE) if left > 5 else too_late()
        print(row(name, results[name]), flush=True)
        if options.json:
            save(options.json, results)
    return int(any(result["error"] or result["is_right"] is False for result in results.values()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="time for all checks")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--only", nargs="+", choices=CHECKS, help="these checks alone")
    parser.add_argument("--one", choices=CHECKS, help=argparse.SUPPRESS)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default)
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.tiny:
        parser.error("there is no CUDA device here; --tiny tries the script on a CPU")
    return options


def run(name: str, setting: Setting, *, seconds: float) -> dict[str, Any]:
    """A check in a process of its own, ended after so many seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", name, "--device", setting.device]
    command += ["--tiny"] if setting.is_tiny else []
    begun = time.monotonic()
    # files and not pipes: what the check has started itself, as compilers, may hold those open
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        code = ended(command, output, errors, seconds=seconds)
        said, complaint = (_content(file).splitlines() for file in (output, errors))
    took = time.monotonic() - begun
    if code is None:
        return result(error=f"not done after {seconds:.0f} s", seconds=took)
    try:
        figures = json.loads(said[-1])
    except (IndexError, ValueError):
        return result(error=(complaint or [f"exit code {code}"])[-1], seconds=took)
    return result(figures=figures, is_right=figures.pop("is_right", None), seconds=took)


def ended(
    command: Sequence[str], output: IO[str], errors: IO[str], *, seconds: float
) -> int | None:
    """The exit code of a command; None for one that was ended, with all that it had started.

    A process that waits in the driver cannot be ended: it is left behind.
    """
    process = subprocess.Popen(
        command, stdout=output, stderr=errors, cwd=ROOT, start_new_session=True
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        return None


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def too_late() -> dict[str, Any]:
    return result(error="no time was left")


def result(
    *,
    figures: dict[str, Any] | None = None,
    is_right: bool | None = None,
    error: str | None = None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """What is kept of a check."""
    return {"figures": figures or {}, "is_right": is_right, "error": error, "seconds": seconds}


def row(name: str, outcome: dict[str, Any]) -> str:
    """A check as lines of the table: its figures, and what was expected."""
    mark = {True: "right", False: "WRONG", None: "measured"}[outcome["is_right"]]
    head = f"{name} ({outcome['seconds']:.0f} s): {outcome['error'] or mark}"
    lines = [
        f"    {key:<28} {value:.4g}" if isinstance(value, float) else f"    {key:<28} {value}"
        for key, value in outcome["figures"].items()
    ]
    expected = [f"    expected: {EXPECTED[name]}"] if name in EXPECTED else []
    return "\n".join([head, *lines, *expected])


def save(path: Path, results: dict[str, Any]) -> None:
    """All figures so far, with the machine they are of."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    machine = {"device": device, "torch": torch.__version__, "python": platform.python_version()}
    path.write_text(f"{json.dumps({**machine, 'checks': results}, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

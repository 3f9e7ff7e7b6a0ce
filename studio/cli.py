"""`orthodiff studio [--host ...] [--port ...] [--base ...] [--runs ...]`: open the web page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted; the exit code."""
    parser = argparse.ArgumentParser(
        prog="orthodiff studio", description="Open the studio, a web page on this computer."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    parser.add_argument("--port", default=7860, type=int, help="port [%(default)s]")
    parser.add_argument("--base", action="append", help="base model; repeatable [assets/pocket]")
    parser.add_argument("--runs", default="runs", type=Path, help="where runs live [%(default)s]")
    options = parser.parse_args(arguments)
    if not 0 < options.port < 2**16:
        parser.error(f"--port is {options.port}, but ports go from 1 to 65535. Use 7860.")
    from .serve import serve

    try:
        serve(bases=options.base, runs=options.runs, host=options.host, port=options.port)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0

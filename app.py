"""Open the studio: `python app.py [--host 127.0.0.1] [--port 7860] [--base ...] [--runs ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orthodiff.errors import UserError


def main() -> int:
    """Serve the page until it is interrupted; the exit code."""
    parser = argparse.ArgumentParser(description="Open the studio, a web page on this computer.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    parser.add_argument("--port", default=7860, type=int, help="port [%(default)s]")
    parser.add_argument("--base", action="append", help="base model; repeatable [assets/pocket]")
    parser.add_argument("--runs", default="runs", type=Path, help="where runs live [%(default)s]")
    options = parser.parse_args()
    if not 0 < options.port < 2**16:
        parser.error(f"--port is {options.port}, but ports go from 1 to 65535. Use 7860.")
    from studio.serve import serve

    try:
        serve(bases=options.base, runs=options.runs, host=options.host, port=options.port)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

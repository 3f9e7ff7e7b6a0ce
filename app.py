"""Open the web page: `python app.py [--host 127.0.0.1] [--port 7860] [--base ...] [--runs ...]`."""

import sys

from orthodiff.studio.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m orthodiff COMMAND ...`."""

from orthodiff.cli.gc import leave
from orthodiff.cli.main import main

if __name__ == "__main__":
    leave(main())

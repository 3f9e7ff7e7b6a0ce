"""`python -m training ...`, from the repository; installed, the same is `orthodiff train ...`."""

from orthodiff.cli.gc import leave
from orthodiff.training.cli.main import main

if __name__ == "__main__":
    leave(main())

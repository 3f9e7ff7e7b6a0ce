"""The trainer, imported as `orthodiff.training`.

Its files lie in `training/` at the top of the repository. A wheel holds them in this folder
instead (see `setup.py`), so that no package of so general a name lands in a user's environment.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "training")]

"""The web page, imported as `orthodiff.studio`.

Its files lie in `studio/` at the top of the repository. A wheel holds them in this folder
instead (see `setup.py`), so that no package of so general a name lands in a user's environment.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "studio")]

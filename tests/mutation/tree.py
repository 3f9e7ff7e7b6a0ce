"""The copy of the checkout that is mutated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT.parent if ROOT.parent.name == "mutants" else ROOT / "build/mutants"
TREE = PLACE / "tree"


def copy_tree() -> None:
    """Copy the files under version control that have changed; remove those that are gone."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    names = {name for name in listed if name and (ROOT / name).is_file()}
    for name in names:
        source, copy = ROOT / name, TREE / name
        if not copy.exists() or source.read_bytes() != copy.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for path in TREE.rglob("*.py"):
        if str(path.relative_to(TREE)) not in names:
            path.unlink()

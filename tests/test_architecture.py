"""Arrows point one way: the library knows no trainer, the trainer no studio."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "orthodiff": {"gradio"},
    "orthodiff/ops": {"orthodiff", "diffusers", "peft", "transformers"},
    "orthodiff/io": {
        "orthodiff.adapters", "orthodiff.models", "orthodiff.control", "orthodiff.components",
        "orthodiff.sampling", "orthodiff.evaluation", "orthodiff.export", "orthodiff.cli",
    },
    "orthodiff/adapters": {
        "orthodiff.components", "orthodiff.models", "orthodiff.control", "orthodiff.sampling",
        "orthodiff.evaluation", "orthodiff.export", "orthodiff.cli", "diffusers", "transformers",
    },
    "orthodiff/models": {
        "orthodiff.adapters", "orthodiff.components", "orthodiff.control", "orthodiff.sampling",
        "orthodiff.evaluation", "orthodiff.export", "orthodiff.cli",
    },
    "orthodiff/control": {
        "orthodiff.adapters", "orthodiff.components", "orthodiff.sampling",
        "orthodiff.evaluation", "orthodiff.export", "orthodiff.cli",
    },
    "orthodiff/sampling": {"orthodiff.adapters", "orthodiff.components", "orthodiff.cli"},
    "orthodiff/evaluation/metrics": {
        "orthodiff.adapters", "orthodiff.sampling", "orthodiff.models", "orthodiff.cli",
    },
    "training": {"gradio", "orthodiff.studio"},
    "studio": {"app"},
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("place", FORBIDDEN)
def test_arrows_point_one_way(place):
    path = ROOT / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, place
    for file in files:
        for name in imported(file):
            banned = [b for b in FORBIDDEN[place] if f"{name}.".startswith(f"{b}.")]
            assert not banned, f"{file.relative_to(ROOT)} imports {name}"


def test_no_junk_drawer():
    packages = ("orthodiff", "training", "studio")
    assert not [path for package in packages for path in (ROOT / package).rglob("utils.py")]

"""Arrows point one way, nothing goes in circles, rooms stay small, the library keeps silent."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"training": "orthodiff.training", "studio": "orthodiff.studio"}
"""Folders whose import name is another."""
MOST_FILES = 15
ABOVE_MODELS = {
    "orthodiff.components", "orthodiff.sampling", "orthodiff.evaluation", "orthodiff.export",
    "orthodiff.options", "orthodiff.batch",
}  # fmt: skip
FORBIDDEN = {
    "orthodiff": {"gradio", "orthodiff.training", "orthodiff.studio", "orthodiff.cli"},
    "orthodiff.ops": {"orthodiff", "diffusers", "peft", "transformers"},
    "orthodiff.io": {
        *ABOVE_MODELS, "orthodiff.adapters", "orthodiff.models", "orthodiff.control",
    },
    "orthodiff.adapters": {
        *ABOVE_MODELS, "orthodiff.models", "orthodiff.control", "diffusers", "transformers",
    },
    "orthodiff.models": {*ABOVE_MODELS, "orthodiff.adapters", "orthodiff.control"},
    "orthodiff.control": {*ABOVE_MODELS, "orthodiff.adapters"},
    "orthodiff.sampling": {
        "orthodiff.adapters", "orthodiff.components", "orthodiff.evaluation", "orthodiff.options",
        "orthodiff.batch",
    },
    "orthodiff.evaluation.metrics": {
        "orthodiff.adapters", "orthodiff.sampling", "orthodiff.models", "orthodiff.options",
    },
    "orthodiff.cli": {"gradio"},
    "orthodiff.training": {"gradio", "orthodiff.studio"},
    "orthodiff.studio": {"app"},
}  # fmt: skip
"""What a package and all in it must not import, except within itself."""
OUTERMOST = ("orthodiff.cli", "orthodiff.__main__", "orthodiff.training", "orthodiff.studio")
"""Not part of the library: they may print, and know the command line."""
COMMAND_LINE = {"orthodiff.cli.flags", "orthodiff.cli.gc", "orthodiff.cli.streams"}
"""What the trainer's own command line is made of too; the studio's jobs run `main` besides."""


@cache
def modules() -> Mapping[str, Path]:
    """Every module of ours by its import name."""
    named = {}
    for folder in ("orthodiff", *FOLDERS, "pocket"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [FOLDERS.get(folder, folder), *path.relative_to(ROOT / folder).parts]
            name = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
            if name not in named or path.parts[-2] not in FOLDERS:
                named[name] = path
    return named


@cache
def imports(name: str) -> frozenset[str]:
    """Every module a module imports: lazily, for types only and by relative names too."""
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join(parents[: len(parents) - node.level + 1])
                source = f"{base}.{source}".rstrip(".")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                imported.add(inner if inner in modules() else source)
    return frozenset(imported)


def lies_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def circles() -> Iterator[list[str]]:
    """The strongly connected components of more than one module (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports(name) & modules().keys() - {name}):
            if other not in index:
                yield from visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                yield circle

    for name in modules():
        if name not in index:
            yield from visit(name)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_point_one_way(package: str) -> None:
    members = [name for name in modules() if lies_in(name, package)]
    if package == "orthodiff":
        members = [name for name in members if not any(lies_in(name, o) for o in OUTERMOST)]
    assert members, package
    for name in members:
        for other in imports(name):
            if lies_in(other, package) and package != "orthodiff":
                continue
            banned = [b for b in FORBIDDEN[package] if lies_in(other, b)]
            assert not banned, f"{name} imports {other}"


def test_no_imports_go_in_a_circle() -> None:
    assert list(circles()) == []


def test_trainer_and_studio_import_no_command() -> None:
    for name in modules():
        runs_commands = lies_in(name, "orthodiff.studio")
        allowed = COMMAND_LINE | ({"orthodiff.cli.main"} if runs_commands else set())
        if any(lies_in(name, folder) for folder in FOLDERS.values()):
            commands = {other for other in imports(name) if lies_in(other, "orthodiff.cli")}
            assert commands <= allowed, name


def test_folders_stay_small() -> None:
    files = [path for path in modules().values() if path.name != "__init__.py"]
    files += [path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_the_library_prints_nothing() -> None:
    for name, path in modules().items():
        if not lies_in(name, "orthodiff") or any(lies_in(name, o) for o in OUTERMOST):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_print = isinstance(node, ast.Name) and node.id == "print"
            assert not is_print, f"{name}:{node.lineno} prints"


def test_every_class_has_a_name_of_its_own() -> None:
    """A reader who meets `Plan` or `Recipe` need not ask which one."""
    names = Counter(
        node.name
        for name, path in modules().items()
        if lies_in(name, "orthodiff")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_junk_drawer() -> None:
    assert not [path for path in modules().values() if path.name == "utils.py"]


def test_only_entry_points_touch_the_garbage_collector() -> None:
    """A library that freezes or switches off somebody else's collector surprises its user."""
    for name in modules():
        is_entry_point = "cli" in name.split(".") or name.endswith("__main__")
        assert is_entry_point or not imports(name) & {"gc", "orthodiff.cli.gc"}, name

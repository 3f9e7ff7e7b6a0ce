"""The documentation builds, its links lead somewhere, and its commands and code are the present."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{page}.md" for page in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"^--[a-z]\w*")
NOT_OURS = {
    "--num_processes", "--multi_gpu", "--nproc_per_node", "--nnodes", "--rdzv_backend",
    "--rdzv_endpoint", "--rdzv_id",
}  # fmt: skip
"""Flags of accelerate and torchrun."""
MADE = {"commands.md", "python.md", "events.md", "index.md"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.heavy
def test_site_builds_without_a_warning(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    commands = (site / "reference/commands/index.html").read_text()
    assert "--pretrained_model_name_or_path" in commands
    assert "orthodiff train control" in commands
    assert "orthodiff train gallery" in commands
    assert "attach" in (site / "reference/python/index.html").read_text()
    assert "Finished" in (site / "reference/events/index.html").read_text()
    assert (site / "assets/pictures/row.png").is_file()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        there = page.parent / target
        generated = there.parent == ROOT / "docs/reference" and there.name in MADE
        assert there.exists() or generated, f"{name(page)} links to {target}"


def test_readme_can_be_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 250


@pytest.mark.parametrize(
    "page", [*PAGES[:2], *PAGES[3:], ROOT / "SECURITY.md", ROOT / "pocket/README.md"], ids=name
)
def test_lines_fit_an_editor(page):
    """Only an address cannot be broken, and an entry of the changelog is one line."""
    lines = page.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and "://" not in line] == []


def test_code_of_the_readme_runs(monkeypatch, tmp_path):
    """As it stands, in ten lines; only what it writes goes elsewhere."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]
    assert len(code.strip().splitlines()) <= 10
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["adapter"].merged
    assert (tmp_path / "runs/first/adapter_config.json").is_file()


@cache
def known_flags() -> frozenset[str]:
    """The flags of every command, from its help."""
    from orthodiff.cli.main import COMMANDS, main
    from orthodiff.training.cli.main import main as train
    from orthodiff.training.tasks import TASKS

    calls = [(main, [command, "--help"]) for command in COMMANDS if command != "train"]
    calls += [(train, [task, "--help"]) for task in (*TASKS, "gallery")]
    printed = io.StringIO()
    for call, words in calls:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            call(words)
    return frozenset(re.findall(r"--[a-z]\w*", printed.getvalue()))


def commands_of(page: Path) -> list[list[str]]:
    """The words of each of our commands in a page's code blocks."""
    found = []
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.search(r"\b(orthodiff|-m training|-m orthodiff) ", line):
                found.append(shlex.split(line, comments=True))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_in_commands_exist(page):
    for words in commands_of(page):
        flags = {match[0] for word in words if (match := FLAG.match(word))}
        assert flags <= known_flags() | NOT_OURS, " ".join(words)


def test_commands_are_found_in_pages():
    """Or the test above would hold nothing."""
    assert len(commands_of(ROOT / "docs/quickstart.md")) >= 5


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_named_in_pages_exist(page):
    """A path in backquotes that begins with one of our folders is there, or a pattern finds it."""
    folders = "orthodiff|training|studio|pocket|configs|benchmarks|examples|tests|assets|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./*-]*)`", page.read_text("utf-8")):
        if page.name != "CHANGELOG.md":
            assert list(ROOT.glob(path.rstrip("/"))), f"{name(page)} names {path}"

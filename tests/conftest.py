"""Fixtures shared by all tests."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.batches import Call

TESTS = Path(__file__).parent
HEAVY = {
    "agreement", "batch", "batch_rows", "check", "control_training",
    "controlnet_benchmark", "export_images",
    "export_whole", "gallery", "garbage", "golden", "hardware", "hub", "kill", "loop", "memory",
    "memory_modes", "os_errors", "outside_adapter", "ownership", "pairs", "plan", "pocket",
    "pocket_model", "prior", "replay", "requests", "resume", "runtimes", "safety",
    "samples", "sd15", "segmenter", "studio", "studio_browser", "studio_control", "studio_data",
    "studio_jobs", "studio_library",
    "text_training", "training_cli", "training_faults", "world",
    "compiled", "heartbeat", "shares", "lean_training", "tally",
}  # fmt: skip
"""Modules `test_...` that start processes or train for long: `make check` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make check` leaves out."""
    missing = sorted(name for name in HEAVY if not (TESTS / f"test_{name}.py").is_file())
    if missing:
        raise pytest.UsageError(f"HEAVY in {__file__} names modules that are not there: {missing}")
    for item in items:
        if item.path.stem.removeprefix("test_") in HEAVY:
            item.add_marker("heavy")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how to run the tests in this order again; pytest-randomly says it only without `-q`."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        terminalreporter.write_line(f"The order of the tests: --randomly-seed={seed}")


@pytest.fixture(autouse=True)
def _same_chance() -> None:
    """What a test draws from torch does not depend on the tests before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """A training in this process has set all there was aside for good; tests go on after it."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion folder, epsilon prediction; do not write into it."""
    from tests.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion XL folder; do not write into it."""
    from tests.tiny import make_tiny_xl

    return make_tiny_xl(tmp_path_factory.mktemp("tiny-xl") / "base")


@pytest.fixture(scope="session")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of the tiny base with noise for parameters; do not write into them."""
    from tests.batches import make_adapters

    return make_adapters(tiny, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def call(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> "Call":
    """Run `generate` with some prompts of a file; the exit code and what was printed."""

    from orthodiff.cli.main import main

    def run(*words: object, prompts: str = "a {red|blue|green} dog\na cat\n", out: str = "out"):
        file = tmp_path / "prompts.txt"
        file.write_text(prompts)
        given = ["--pretrained_model_name_or_path", tiny, "--prompts", file, "--batch_size", 3]
        given += ["--output_dir", tmp_path / out, *words]
        code = main(["generate", *map(str, given)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server for this session; skipped where there can be none."""
    from tests.postgres import missing, server

    if reason := missing():
        pytest.skip(reason)
    with server() as url:
        yield url

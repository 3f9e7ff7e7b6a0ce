"""Fixtures shared by all tests."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


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

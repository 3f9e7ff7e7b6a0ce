"""The embedded model, controls and example subjects that come with orthodiff."""

from __future__ import annotations

from pathlib import Path


def assets() -> Path:
    """The folder of `pocket`, `pocket-canny`, ...: of the wheel, or of the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"

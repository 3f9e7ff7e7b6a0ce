"""The embedded model, controls and example subjects that come with orthodiff."""

from __future__ import annotations

from pathlib import Path

MODELS = ("pocket", "pocket-canny", "pocket-segmenter")
"""The folders that can be named without a path: a base model, an adapter, a segmentation model."""
MARKS = ("model_index.json", "adapter_config.json", "config.json")
"""One of these lies in each of them."""


def assets() -> Path:
    """The folder of `pocket`, `pocket-canny`, ...: of the wheel, or of the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


def shipped(name: str | Path) -> Path:
    """The path `name`; for `pocket` or `assets/pocket` our own folder, unless a model lies here.

    The checkout has another folder `pocket`, with code.
    """
    path = Path(name)
    is_ours = path.name in MODELS and path.parent in (Path(), Path("assets"))
    is_here = path.is_file() or any((path / file).is_file() for file in MARKS)
    return assets() / path.name if is_ours and not is_here else path

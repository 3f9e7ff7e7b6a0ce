"""Serves the page: on this computer only, telling nobody, keeping uploads only while it runs."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orthodiff.errors import UserError
from orthodiff.io.assets import shipped

UPLOAD_LIMIT = "50mb"


def serve(*, bases: Sequence[str] | None, runs: Path, host: str, port: int) -> None:
    """Open the page and stay until interrupted.

    Raises:
        UserError: there is no base model to work with, or the port is taken.
    """
    names = tuple(bases or [default_base()])
    check_bases(names)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: tidily
    with tempfile.TemporaryDirectory(prefix="orthodiff-studio-") as cache:
        os.environ["GRADIO_TEMP_DIR"] = cache
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        from .page import build
        from .state import Studio
        from .theme import STYLE, make_theme

        page = build(Studio.open(bases=names, runs=runs))
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                theme=make_theme(),
                css_paths=STYLE,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                max_file_size=UPLOAD_LIMIT,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
            )
        except OSError as error:
            raise UserError(
                f"The studio cannot listen on {host}:{port} ({error}). Choose another --port."
            ) from error


def default_base() -> str:
    """The embedded model: of this checkout, or of the installed package."""
    inside = Path("assets/pocket")
    return str(inside) if inside.is_dir() else "pocket"


def check_bases(names: Sequence[str]) -> None:
    """Refuse a base that can be seen to be none.

    Raises:
        UserError: a folder without a model, or a path to nothing.
    """
    for name in names:
        folder = shipped(name)
        if folder.is_dir() and not (folder / "model_index.json").is_file():
            raise UserError(
                f"`{name}` holds no model_index.json, so it is not a base model. Give --base the "
                "folder that holds model_index.json, unet/, vae/ and text_encoder/."
            )
        looks_like_path = folder.is_absolute() or name.startswith(".") or name.count("/") != 1
        if not folder.is_dir() and (looks_like_path or name.startswith("assets/")):
            raise UserError(
                f"The base model `{name}` does not exist. Give --base a folder or a hub id."
            )

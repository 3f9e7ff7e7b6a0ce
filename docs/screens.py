"""Takes the screens of the documentation from a running studio: `python docs/screens.py URL JOB`.

JOB is the id of a finished training. Needs Debian's `chromium` and the package playwright.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

SCREENS = Path(__file__).parents[1] / "assets" / "screens"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOTS = (
    ("train", "train", WIDE, "light"), ("runs", "runs", WIDE, "light"),
    ("generate", "generate", WIDE, "light"), ("library", "library", WIDE, "light"),
    ("batch", "batch", WIDE, "light"), ("control", "control", WIDE, "light"),
    ("runs-phone-dark", "runs", PHONE, "dark"), ("generate-phone", "generate", PHONE, "light"),
    ("library-dark", "library", WIDE, "dark"), ("train-phone-dark", "train", PHONE, "dark"),
)  # fmt: skip
"""File, tab, size and colours of each."""
SETTLES, PATIENCE, MOST = 2500, 120_000, 60_000
"""Milliseconds after which images and curves are there, and for the page; bytes of a file."""


def main(url: str, job: str) -> None:
    """Take all of them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ("--no-sandbox", "--disable-gpu")
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, tab, size, colours in SHOTS:
            page: Any = chromium.new_page(viewport=size, color_scheme=colours)
            page.set_default_timeout(PATIENCE)
            page.goto(f"{url}/?job={job}" if tab == "runs" else url)
            page.wait_for_selector("#start", state="attached")
            page.wait_for_timeout(SETTLES)
            page.evaluate("(tab) => window.studio.openTab(tab)", tab)
            page.wait_for_timeout(SETTLES)
            write(page.screenshot(), SCREENS / f"{name}.webp")
            page.close()
        chromium.close()


def write(png: bytes, place: Path) -> None:
    """As WebP, no larger than `MOST`."""
    with Image.open(io.BytesIO(png)) as image:
        for quality in range(88, 40, -6):
            packed = io.BytesIO()
            image.convert("RGB").save(packed, "WEBP", quality=quality, method=6)
            if len(packed.getvalue()) <= MOST:
                break
    place.write_bytes(packed.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The studio in a real browser: Debian's Chromium, driven by Playwright, on a loopback port."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthodiff.io.png_metadata import read_recipe
from orthodiff.training.events.history import read_history
from tests.photos import save
from tests.runs import ROOT, make_pictures
from tests.test_studio_control import train_control

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120_000
"""Milliseconds."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studio") / "runs"


@pytest.fixture(scope="module")
def address(tiny: Path, runs: Path) -> Iterator[str]:
    """The studio, served by `app.py` as a user would."""
    scratch = runs.parent / "scratch"
    scratch.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--base", str(tiny), "--runs", str(runs)],
        cwd=ROOT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(runs.parent / "cache"),
            "TMPDIR": str(scratch),
        },
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_answer(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert list(scratch.iterdir()) == [], "uploads are left behind"


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: "playwright.Browser", address: str) -> Iterator["playwright.Page"]:
    """The page, opened; it must ask nobody else for anything, and log no error."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#start")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def test_from_photos_to_pictures(
    page: "playwright.Page", browser: "playwright.Browser", address: str, runs: Path, tmp_path: Path
) -> None:
    photos = sorted(make_pictures(tmp_path / "photos").iterdir())
    page.get_by_label("My own photos").check()
    page.locator("#class-word input, #class-word textarea").fill("vase")
    _holds(page, "#prompt", "a photo of sks vase")
    page.locator("#start").click()
    _sees(page, "#start-message", "There are no photos yet")

    page.locator("#photos input[type=file]").set_input_files([str(photo) for photo in photos])
    page.wait_for_function("document.querySelectorAll('#photos img').length >= 3")
    _sees(page, "#photo-report", "3 pictures from 44 x 40 to 46 x 40 pixels")
    page.locator("#hra-rank input").fill("7")
    page.locator("#start").click()
    _sees(page, "#start-message", "Use an even rank")
    assert not runs.exists()

    page.locator("#hra-rank input").fill("4")
    page.locator("#steps input").fill("30")
    page.locator("#start").click()
    _state(page, "vase-hra", "running", "finished")
    _state(page, "vase-hra", "finished")
    _sees(page, "#card", "30 / 30")
    _sees(page, "#card", "a photo of sks vase")
    assert page.locator("#card svg.curve").is_visible()
    _pictures(page, "#samples img", 4)
    assert len(list((runs / "vase-hra" / "photos").iterdir())) == 3

    page.reload()
    _state(page, "vase-hra", "finished")
    other = browser.new_page()
    other.goto(address)
    _state(other, "vase-hra", "finished")
    other.close()

    page.locator("#use").click()
    prompts = page.locator("#generate-prompts textarea")
    _holds(
        page,
        "#generate-prompts",
        "a photo of sks vase in the snow\na photo of sks vase on the beach",
    )
    prompts.fill("")
    page.locator("#generate-button").click()
    _sees(page, "#generate-message", "The prompt is empty")
    prompts.fill("a photo of sks vase at night")
    page.locator("#generate-num-images input[type=number]").fill("2")
    page.locator("#generate-seed input").fill("11")
    page.locator("#generate-button").click()
    _pictures(page, "#generate-pictures img", 4)
    _sees(page, "#generate-pictures", "seed 12")
    with page.expect_download() as download:
        page.locator("#generate-download").click()
    with zipfile.ZipFile(download.value.path()) as pack:
        pack.extractall(tmp_path / "zip")
    recipes = [read_recipe(path) for path in sorted((tmp_path / "zip").glob("adapted-*.png"))]
    assert [recipe.seed for recipe in recipes if recipe] == [11, 12]


def test_photos_that_cannot_be_used_are_named_before_the_start(
    page: "playwright.Page", runs: Path, tmp_path: Path
) -> None:
    photos = [save(tmp_path / f"{number}.png", number) for number in range(2)]
    (tmp_path / "letter.jpg").write_text("Dear all")
    photos += [tmp_path / "letter.jpg", save(tmp_path / "copy.png", 0)]
    page.get_by_label("My own photos").check()
    page.locator("#photos input[type=file]").set_input_files([str(photo) for photo in photos])
    _sees(page, "#photo-report", "1 photo cannot be used")
    _sees(page, "#photo-report", "`letter.jpg` cannot be used: it is not in a picture format")
    _sees(page, "#photo-report", "are the same picture")
    before = sorted(runs.glob("*"))
    page.locator("#start").click()
    _sees(page, "#start-message", "`letter.jpg` cannot be used")
    assert sorted(runs.glob("*")) == before


def test_stop_and_continue_an_example(page: "playwright.Page", runs: Path) -> None:
    page.get_by_label("teapot", exact=True).check()
    _holds(page, "#prompt", "a photo of sks teapot")
    page.get_by_label("BOFT", exact=True).check()
    page.locator("#boft-block_size input").fill("4")
    page.locator("#steps input").fill("90000")
    page.locator("#start").click()
    _state(page, "teapot-boft", "running")
    page.locator("#start").click()
    _sees(page, "#start-message", "is still being trained")
    while not read_history(runs / "teapot-boft").step:  # or there is nothing to go on from
        page.wait_for_timeout(100)
    page.locator("#stop").click()
    _state(page, "teapot-boft", "stopped")
    playwright.expect(page.locator("#resume")).to_be_visible()
    assert list((runs / "teapot-boft").glob("checkpoint-*"))


def test_pictures_that_follow_a_drawing(
    page: "playwright.Page", tiny: Path, runs: Path, tmp_path: Path
) -> None:
    train_control(tiny, runs / "edges")
    Image.new("RGB", (40, 20)).save(tmp_path / "blank.png")
    page.reload()
    _state(page, "edges", "finished")
    page.locator("#use").click()
    _sees(page, "#control-map", "teapot · its map, 32 x 32")
    page.locator("#upper-threshold input[type=number]").fill("50")
    _sees(page, "#control-map", "The lower threshold is 100, above the upper one")
    page.get_by_label("A ready map").check()
    _sees(page, "#control-map", "There is no map yet")
    page.locator("#map-maps input[type=file]").set_input_files(str(tmp_path / "blank.png"))
    _sees(page, "#control-map", "`blank.png`: The canny map is blank")

    page.get_by_label("A drawing").check()
    _sees(page, "#control-map", "Nothing is drawn yet")
    _draw(page, (0.25, 0.25), (0.75, 0.25), (0.5, 0.75))
    _pictures(page, "#control-map img.used", 1)
    page.locator("#control-num-images input[type=number]").fill("2")
    page.locator("#control-button").click()
    _pictures(page, "#control-pictures img", 7)
    with page.expect_download() as download:
        page.locator("#control-download").click()
    with zipfile.ZipFile(download.value.path()) as pack:
        pack.extractall(tmp_path / "zip")
    used = np.asarray(Image.open(tmp_path / "zip" / "map-00.png"))[..., 0] > 0
    assert used[8, 8:24].all()
    assert not used[:8].any()
    assert len(list((tmp_path / "zip").glob("overlay-*.png"))) == 2

    page.locator("#map-drawing").get_by_text("Undo").click()
    _sees(page, "#control-map", "Nothing is drawn yet")
    page.locator("#control-button").click()
    _sees(page, "#control-message", "Nothing is drawn yet")


def test_no_file_outside_the_page_is_served(address: str, runs: Path) -> None:
    for path in (runs.parent, ROOT / "pyproject.toml", Path("/etc/passwd")):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}/gradio_api/file={path}")


def _draw(page: "playwright.Page", *points: tuple[float, float]) -> None:
    """One stroke through points, which are shares of the sheet's sides."""
    sheet = page.locator("#map-drawing canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


def _state(page: "playwright.Page", run: str, *states: str) -> None:
    wanted = ", ".join(f'.card[data-run="{run}"][data-state="{state}"]' for state in states)
    page.wait_for_selector(wanted)


def _sees(page: "playwright.Page", place: str, text: str) -> None:
    playwright.expect(page.locator(place)).to_contain_text(text, timeout=PATIENCE)


def _holds(page: "playwright.Page", field: str, text: str) -> None:
    playwright.expect(page.locator(field).get_by_role("textbox")).to_have_value(text)


def _pictures(page: "playwright.Page", selector: str, count: int) -> None:
    """That many pictures are there, and have really been loaded."""
    page.wait_for_function(
        "([selector, count]) => { const all = [...document.querySelectorAll(selector)];"
        " all.forEach(one => one.loading = 'eager');"
        " return all.length == count && all.every(one => one.naturalWidth > 0) }",
        arg=[selector, count],
    )


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the studio did not open; exit code {process.poll()}")

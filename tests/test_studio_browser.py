"""The studio in a real browser: Debian's Chromium, driven by Playwright, on a loopback port."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orthodiff.io.png_metadata import read_recipe
from tests.photos import save
from tests.runs import ROOT, make_images
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
TOKEN = "t" * 32

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
Page = Any


class Server:
    """The studio as a user starts it, which can be killed and started again."""

    def __init__(self, place: Path, *words: str, **environment: str) -> None:
        self.place, self.words, self.environment = place, words, environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> Path:
        return self.place / "runs"

    def start(self) -> None:
        scratch = self.place / "scratch"
        scratch.mkdir(exist_ok=True)
        places = ["--data", str(self.place / "data"), "--runs", str(self.runs)]
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), *places, *self.words],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "XDG_CACHE_HOME": str(self.place / "cache"),
                "TMPDIR": str(scratch),
                **self.environment,
            },
        )
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/api/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"the studio did not open; exit code {self.process.poll()}")

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(timeout=60)

    def ask(self, path: str, body: object = None, method: str = "") -> Any:
        """The API's answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, method=method or None)
        request.add_header("content-type", "application/json")
        request.add_header("authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return json.loads(content) if content else None

    def job(self, name: str) -> dict[str, Any]:
        (found,) = [job for job in self.ask("api/jobs")["jobs"] if job["name"] == name]
        return found


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("studio"), "--base", str(tiny))
    opened.start()
    yield opened
    for job in opened.ask("api/jobs?group=active")["jobs"]:
        opened.ask(f"api/jobs/{job['id']}/cancel", {})
    opened.stop()
    left = [path.name for path in (opened.place / "scratch").iterdir()]
    assert left == [], "uploads are left behind"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Any, address: str, *, width: int = 1280) -> Iterator[Page]:
    """A page; it must ask nobody else for anything, and log no error."""
    context = browser.new_context(viewport={"width": width, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.goto(address)
    page.wait_for_selector("#start", state="attached")
    yield page
    context.close()
    origin = "/".join(address.split("/")[:3])
    assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []
    assert errors == []


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Page]:
    with opened(browser, server.url) as page:
        yield page


def test_from_photos_to_images(page: Page, browser: Any, server: Server, tmp_path: Path) -> None:
    photos = sorted(make_images(tmp_path / "photos").iterdir())
    page.get_by_label("My own photos").check()
    page.locator("#start").click()
    sees(page, "#start-message", "There are no photos yet")
    page.locator("#train-subject input[type=file]").set_input_files([str(p) for p in photos])
    images(page, "#train-subject .thumb img", 3)
    sees(page, "#train-subject", "3 images from 44 x 40 to 46 x 40 pixels")
    page.locator("#start").click()
    sees(page, "#start-message", "Say what is on the photos")
    sees(page, "#train-class_word .field-error", "Say what is on the photos")
    field(page, "train-class_word").fill("vase")
    field(page, "hra-rank").fill("1000")
    page.locator("#start").click()
    sees(page, "#start-message", "Use at most 16")
    assert list(server.runs.glob("*")) == []

    field(page, "hra-rank").fill("4")
    unfold(page, "Steps and rate")
    field(page, "train-max_train_steps").fill("40")
    field(page, "train-train_batch_size").fill("2")
    begun = time.monotonic()
    page.locator("#start").click()
    page.wait_for_selector(".card.run[data-name='vase-hra'][data-status='running']")
    address = page.url
    assert "?job=j" in address
    page.wait_for_function("(document.querySelector('.card.run .bar')?.ariaValueNow || 0) > 0")
    assert time.monotonic() - begun < 60
    page.reload()
    page.wait_for_selector(".card.run[data-name='vase-hra']")
    with opened(browser, address) as second:
        status(second, "vase-hra", "succeeded")
    status(page, "vase-hra", "succeeded")
    sees(page, "#runs", "40 / 40")
    assert page.locator("#runs svg.chart").first.is_visible()
    images(page, "#samples img", 4)

    page.locator("#runs [data-action=use]").click()
    sees(page, "#generate-adapters", "means “sks vase”")
    field(page, "generate-prompts").fill("")
    page.locator("#generate-button").click()
    sees(page, "#generate-message", "Prompts is missing")
    field(page, "generate-prompts").fill("a photo of {trigger} at night")
    field(page, "generate-num_images").fill("2")
    field(page, "generate-seed").fill("11")
    page.locator("#generate-adapters input[type=range]").fill("0")
    page.locator("#generate-button").click()
    images(page, "#gallery td img", 4)
    sees(page, "#gallery", "seed 12")
    with page.expect_download() as download:
        page.locator("#gallery a[download]").click()
    with zipfile.ZipFile(download.value.path()) as pack:
        pack.extractall(tmp_path / "zip")
    files = sorted((tmp_path / "zip").glob("*.png"))
    recipes = [read_recipe(path) for path in files]
    assert [recipe.seed for recipe in recipes if recipe] == [11, 12] * 2
    base, adapted = (np.asarray(Image.open(path)) for path in (files[0], files[2]))
    assert (base == adapted).all(), "strength 0 is not the base"
    page.reload()
    page.locator("#tab-generate-button").click()
    images(page, "#gallery td img", 4)
    unfold(page, "Make an image again")
    page.locator("#recipe-upload input[type=file]").set_input_files(str(files[2]))
    playwright.expect(field(page, "generate-seed")).to_have_value("11")
    playwright.expect(field(page, "generate-prompts")).to_have_value("a photo of sks vase at night")


def test_start_right_after_choosing_trains_what_was_chosen(page: Page, server: Server) -> None:
    """No field waits for a round trip: everything is derived when Start is pressed."""
    page.route("**/gradio_api/**", lambda route: route.continue_())
    unfold(page, "Steps and rate")
    field(page, "train-max_train_steps").fill("1")
    page.evaluate(
        "() => { const [cat] = [...document.querySelectorAll('#example input')]"
        ".filter((one) => one.value === 'cat'); cat.click();"
        " document.querySelector('#start').click(); }"
    )
    page.wait_for_selector(".card.run[data-name='cat-hra']")
    assert server.job("cat-hra")["prompt"] == "a photo of sks cat"


def test_files_that_cannot_be_used_are_named(page: Page, tmp_path: Path) -> None:
    photos = [save(tmp_path / f"{number}.png", number) for number in range(2)]
    (tmp_path / "letter.jpg").write_text("Dear all")
    photos += [tmp_path / "letter.jpg", save(tmp_path / "copy.png", 0)]
    page.get_by_label("My own photos").check()
    page.locator("#train-subject input[type=file]").set_input_files([str(p) for p in photos])
    sees(page, "#train-subject", "1 file cannot be used")
    sees(page, "#train-subject", "`letter.jpg` cannot be used")
    sees(page, "#train-subject", "are the same")
    images(page, "#train-subject .thumb img", 3)
    page.locator("#train-subject .thumb button").first.click()
    images(page, "#train-subject .thumb img", 2)


def test_cancelled_from_a_second_tab_deleted_and_restored(
    page: Page, browser: Any, server: Server
) -> None:
    job = server.ask(
        "api/jobs",
        {"kind": "dreambooth", "subject": "teapot", "config": {"max_train_steps": 90_000}},
    )
    with opened(browser, f"{server.url}/?job={job['id']}") as second:
        status(second, "teapot-hra", "running")
        page.locator("#tab-runs-button").click()
        page.locator("#runs .job-card[data-name=teapot-hra]").click()
        page.locator("#runs [data-action=cancel]").click()
        status(second, "teapot-hra", "cancelled")
        second.locator("#runs [data-action=delete]").click()
        second.locator(".toast button").wait_for()
        playwright.expect(second.locator("#runs .job-card[data-name=teapot-hra]")).to_have_count(0)
        second.locator(".toast button").click()
        playwright.expect(second.locator("#runs .job-card[data-name=teapot-hra]")).to_have_count(1)


def test_an_adapter_is_exported_from_the_library(
    page: Page, server: Server, tmp_path: Path
) -> None:
    page.locator("#tab-library-button").click()
    page.locator("article[data-name=cat-hra] select.export").select_option("lora")
    with page.expect_download() as download:
        page.locator("#library a.download").click()
    assert Path(download.value.path()).stat().st_size > 1000
    assert download.value.suggested_filename == "cat-hra-lora.safetensors"


def test_images_that_follow_a_drawing(page: Page, tiny: Path, server: Server) -> None:
    train_control(tiny, server.runs / "edges")
    wait_for(lambda: "edges" in [one["name"] for one in server.ask("api/adapters")])
    page.reload()
    page.locator("#tab-control-button").click()
    sees(page, "#control-map", "teapot · its control image, 32 x 32")
    page.locator("#upper-threshold input[type=number]").fill("50")
    sees(page, "#control-map", "The lower threshold is 100, above the upper one")
    page.get_by_label("A drawing").check()
    sees(page, "#control-map", "Nothing is drawn yet")
    draw(page, (0.25, 0.25), (0.75, 0.25), (0.5, 0.75))
    images(page, "#control-map img.used", 1)
    field(page, "control-num_images").fill("2")
    page.locator("#control-button").click()
    images(page, "#control-gallery .album:first-child td img", 6)
    page.locator("#map-drawing").get_by_text("Undo").click()
    sees(page, "#control-map", "Nothing is drawn yet")
    page.locator("#control-button").click()
    sees(page, "#control-message", "Nothing is drawn yet")


def test_gradio_s_own_client_makes_images(server: Server) -> None:
    client = pytest.importorskip("gradio_client").Client(server.url, verbose=False)
    urls = client.predict("a cat", num_images=2, api_name="/generate")
    assert len(urls) == 2
    with urllib.request.urlopen(f"{server.url}/{urls[0]}") as answer:
        assert answer.headers["content-type"] == "image/png"


def test_the_page_is_usable_on_a_phone(browser: Any, server: Server) -> None:
    with opened(browser, server.url, width=390) as page:
        for name in ("train", "runs", "generate", "library"):
            open_tab(page, name)
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth + 1")
        open_tab(page, "runs")
        page.locator("#runs .job-card").first.click()
        page.locator("od-run .back").click()
        playwright.expect(page.locator("#runs .job-card").first).to_be_visible()


def test_a_killed_server_finds_its_training_again(browser: Any, server: Server) -> None:
    job = server.ask(
        "api/jobs",
        {"kind": "dreambooth", "subject": "robot", "config": {"max_train_steps": 90_000}},
    )
    with opened(browser, f"{server.url}/?job={job['id']}") as page:
        page.wait_for_function(
            "(document.querySelector('.card.run .bar')?.ariaValueNow || -1) >= 0"
        )
        status(page, "robot-hra", "running")
        wait_for(lambda: server.job("robot-hra")["step"] > 1)
        server.kill()
        server.start()
        step = server.job("robot-hra")["step"]
        wait_for(lambda: server.job("robot-hra")["step"] > step)
        status(page, "robot-hra", "running")
        page.locator("#runs [data-action=pause]").click()
        status(page, "robot-hra", "interrupted")
        sees(page, "#runs", "a checkpoint is saved")


def test_nobody_gets_in_without_a_token(browser: Any, tiny: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, "--base", str(tiny), ORTHODIFF_TOKEN=TOKEN)
    server.start()
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/?job=j000000000000")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button").click()
        sees(page, "[role=alert]", "not known here")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        page.wait_for_selector("#runs od-runs")
        sees(page, "#runs", "There is no such job")
        context.close()
    finally:
        server.stop()


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def field(page: Page, name: str) -> Any:
    return page.locator(f"#{name} :is(input, textarea)").first


def unfold(page: Page, title: str) -> None:
    page.get_by_role("button", name=title).click()


def open_tab(page: Page, name: str) -> None:
    button = page.locator(f"#tab-{name}-button").first
    if not button.is_visible():
        page.locator(".overflow-menu button").first.click()
        button = page.locator(".overflow-dropdown button").filter(has_text=name.capitalize())
    button.click()


def draw(page: Page, *points: tuple[float, float]) -> None:
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


def status(page: Page, name: str, state: str) -> None:
    page.wait_for_selector(f".card.run[data-name='{name}'][data-status='{state}']")


def sees(page: Page, place: str, text: str) -> None:
    playwright.expect(page.locator(place).first).to_contain_text(text, timeout=PATIENCE)


def images(page: Page, selector: str, count: int) -> None:
    """That many images are there, and have really been loaded."""
    page.wait_for_function(
        "([selector, count]) => { const all = [...document.querySelectorAll(selector)];"
        " all.forEach(one => one.loading = 'eager');"
        " return all.length == count && all.every(one => one.naturalWidth > 0) }",
        arg=[selector, count],
    )

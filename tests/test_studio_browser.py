"""The studio in a real browser: Debian's Chromium, driven by Playwright, on a loopback port.

One server and one browser serve all tests. Each test makes what it needs, under names of its own,
and leaves nothing running: any of them can be run alone and in any order.
"""

import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orthodiff.io.png_metadata import read_recipe
from tests.photos import save
from tests.runs import make_images, train
from tests.studio_browser import (
    CHROMIUM,
    FLAGS,
    TOKEN,
    Page,
    Server,
    draw,
    field,
    images,
    open_tab,
    opened,
    playwright,
    sees,
    status,
    unfold,
    wait_for,
)
from tests.test_studio_control import train_control

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FOREVER = {"max_train_steps": 90_000}
NEWEST = "#gallery .album:first-child"
COUNT_FRAMES = """const frame = window.requestAnimationFrame.bind(window);
window.frames_asked = 0;
window.requestAnimationFrame = (callback) => { window.frames_asked += 1; return frame(callback); };
"""


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("studio"), "--base", str(tiny))
    started.start()
    yield started
    started.stop()
    left = [path.name for path in (started.place / "scratch").iterdir()]
    assert left == [], "uploads are left behind"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def nothing_runs_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test finds the work of another in its way, however that one has ended."""
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").cancel_all()


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
    assert list(server.runs.glob("vase*")) == []

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
    images(page, f"{NEWEST} td img", 4)
    sees(page, NEWEST, "seed 12")
    with page.expect_download() as download:
        page.locator(f"{NEWEST} a[download]").click()
    with zipfile.ZipFile(download.value.path()) as pack:
        pack.extractall(tmp_path / "zip")
    files = sorted((tmp_path / "zip").glob("*.png"))
    recipes = [read_recipe(path) for path in files]
    assert [recipe.seed for recipe in recipes if recipe] == [11, 12] * 2
    base, adapted = (np.asarray(Image.open(path)) for path in (files[0], files[2]))
    assert (base == adapted).all(), "strength 0 is not the base"
    page.reload()
    page.locator("#tab-generate-button").click()
    images(page, f"{NEWEST} td img", 4)
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
        {"kind": "dreambooth", "subject": "teapot", "config": FOREVER},
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


def test_three_wait_the_second_fails_and_the_third_finishes(page: Page, server: Server) -> None:
    blocker = server.ask(
        "api/jobs", {"kind": "dreambooth", "subject": "toy_duck", "config": FOREVER}
    )
    quick = {"max_train_steps": 1, "train_batch_size": 1, "validation_prompts": []}
    for name in ("first", "second", "third"):
        body = {"kind": "dreambooth", "subject": "dog", "config": quick, "name": name}
        server.ask("api/jobs", body)
    page.locator("#tab-runs-button").click()
    sees(page, "#runs .job-card[data-name=third]", "place 3 in the queue")
    (server.runs / "second" / "request.yaml").write_text("method: nonsense\n")
    for _ in range(2):
        server.ask(f"api/jobs/{blocker['id']}/cancel", {})
    for name, state in (("first", "succeeded"), ("second", "failed"), ("third", "succeeded")):
        page.wait_for_selector(f"#runs .job-card[data-name={name}][data-status={state}]")
    page.locator("#runs .job-card[data-name=second]").click()
    sees(page, "#runs .card.run", "`pretrained_model_name_or_path` is missing")


def test_images_are_cancelled_where_they_are_shown(page: Page, server: Server) -> None:
    config = {"prompts": ["a cat"], "num_images": 16, "num_inference_steps": 200}
    server.ask("api/generate", {"config": config})
    page.locator("#tab-generate-button").click()
    page.locator(f"{NEWEST} [data-action=cancel]").click()
    wait_for(lambda: server.ask("api/jobs?kind=generate")["jobs"][0]["status"] == "cancelled")
    playwright.expect(page.locator(f"{NEWEST} [data-action=cancel]")).to_have_count(0)


def test_a_page_at_rest_asks_for_nothing(page: Page) -> None:
    """Neither the server for news nor the screen for frames."""
    page.add_init_script(COUNT_FRAMES)
    page.reload()
    page.wait_for_selector("#start")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(5000)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    before = page.evaluate("window.frames_asked")
    assert before > 0
    page.wait_for_timeout(4000)
    assert requests == []
    assert page.evaluate("window.frames_asked") - before < 10, "60 a second are asked for"


def test_an_adapter_is_exported_from_the_library(
    page: Page, server: Server, tiny: Path, tmp_path: Path
) -> None:
    assert train(tiny, make_images(tmp_path / "photos"), server.runs / "kettle") == 0
    wait_for(lambda: "kettle" in [one["name"] for one in server.ask("api/adapters")])
    page.locator("#tab-library-button").click()
    page.locator("article[data-name=kettle] select.export").select_option("lora")
    with page.expect_download() as download:
        page.locator("#library a.download").click()
    assert Path(download.value.path()).stat().st_size > 1000
    assert download.value.suggested_filename == "kettle-lora.safetensors"


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
    server.leave_run("pocket-watch")
    with opened(browser, server.url, width=390) as page:
        for name in ("train", "runs", "generate", "library"):
            open_tab(page, name)
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth + 1")
        open_tab(page, "runs")
        card = page.locator("#runs .job-card[data-name=pocket-watch]")
        card.click()
        page.locator("od-run .back").click()
        playwright.expect(card).to_be_visible()


def test_a_killed_server_finds_its_training_again(browser: Any, server: Server) -> None:
    job = server.ask(
        "api/jobs",
        {"kind": "dreambooth", "subject": "robot", "config": FOREVER},
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

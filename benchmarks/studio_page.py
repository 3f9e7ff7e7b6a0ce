"""The studio in Chromium: first load, Start to visible progress, what an idle tab costs.

`python -m benchmarks.studio_page --json FILE` opens a fresh browser each time, so nothing is
cached. A page is usable when the Start button is there and answers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from .support.studio_server import Server, machine, studio

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
STAGE = "/Making samples|Comparing|first step|[1-9]\\d* \\//.test(TEXT)"
STEP = "/[1-9]\\d* \\//.test(TEXT)"
TEXT = "document.querySelector('.card.run')?.textContent || ''"
PATIENCE = 300_000
"""Milliseconds."""


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--idle_seconds", type=float, default=30)
    options = parser.parse_args()
    with studio() as server:
        report = {**machine(), **measure(server, idle_seconds=options.idle_seconds)}
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(f"{text}\n", "utf-8")


def measure(server: Server, *, idle_seconds: float) -> dict[str, Any]:
    """The report; seconds, and shares of one core."""
    with chromium() as browser:
        loads = [first_load(browser, server.url) for _ in range(3)]
        with page_of(browser, server.url) as page:
            page.wait_for_load_state("networkidle")
            time.sleep(15)  # what opening has set off is over, a warm worker too
            idle = idle_cost(server, page, idle_seconds)
        return {
            "server_opens_s": round(server.seconds_to_open, 2),
            "document_s": round(statistics.median(load[0] for load in loads), 2),
            "usable_s": round(statistics.median(load[1] for load in loads), 2),
            "usable_each_s": [round(load[1], 2) for load in loads],
            **idle,
            **start(browser, server.url),
        }


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as driver, same_niceness():
        path = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, url: str) -> Iterator[Page]:
    """A page with an empty cache, loaded."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector("#start", state="visible")
    yield page
    context.close()


def first_load(browser: Browser, url: str) -> tuple[float, float]:
    """Seconds from asking for the page to its document, and to the Start button."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    begun = time.monotonic()
    page.goto(url, wait_until="domcontentloaded")
    document = time.monotonic() - begun
    page.wait_for_selector("#start", state="visible")
    usable = time.monotonic() - begun
    context.close()
    return document, usable


def idle_cost(server: Server, page: Page, seconds: float) -> dict[str, float]:
    """Shares of a core that the server and the page's renderer take while nothing happens."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    before, drawn = server.cpu(), renderers()
    page.wait_for_timeout(1000 * seconds)
    spent = max(taken - drawn.get(pid, taken) for pid, taken in renderers().items())
    return {
        "idle_server_share": round((server.cpu() - before) / seconds, 4),
        "idle_renderer_share": round(spent / seconds, 4),
        "idle_requests": len(requests),
    }


def renderers() -> dict[int, float]:
    """Seconds that each renderer of this benchmark's browser has taken; one has the page."""
    children = psutil.Process().children(recursive=True)
    mine = [process for process in children if "--type=renderer" in process.cmdline()]
    return {process.pid: sum(process.cpu_times()[:2]) for process in mine}


@contextmanager
def same_niceness() -> Iterator[None]:
    """Chromium's processes as nice as this one, though Chromium sets them to 0 itself."""
    own, ended = os.getpriority(os.PRIO_PROCESS, 0), threading.Event()

    def watch() -> None:
        while own < 0 and not ended.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError):
                    if "chrom" in process.name():
                        for thread in process.threads():
                            os.setpriority(os.PRIO_PROCESS, thread.id, own)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def start(browser: Browser, url: str) -> dict[str, float]:
    """Seconds from a press on Start to progress, on a page that has been open a while.

    First the page says that model and data are loaded and what is done before the first step: the
    training itself has told so. Then the first step is counted.
    """
    with page_of(browser, url) as page:
        page.wait_for_timeout(15_000)  # as long as choosing a subject takes
        begun = time.monotonic()
        page.locator("#start").click()
        page.wait_for_function(STAGE.replace("TEXT", TEXT))
        stage = time.monotonic() - begun
        page.wait_for_function(STEP.replace("TEXT", TEXT))
        step = time.monotonic() - begun
        page.locator("#runs [data-action=cancel]").click()
        page.wait_for_selector(".card.run[data-status='cancelled']")
    return {"start_to_progress_s": round(stage, 2), "start_to_first_step_s": round(step, 2)}


if __name__ == "__main__":
    main()

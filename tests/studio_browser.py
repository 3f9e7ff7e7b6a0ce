"""What tests of the studio in a browser share: a server that can be killed, pages, and looks."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.runs import ROOT

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

    def cancel_all(self) -> None:
        """End at once whatever waits or runs."""
        for job in self.ask("api/jobs?group=active&kind=dreambooth,batch,evaluate,generate")[
            "jobs"
        ]:
            for _ in range(2):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    self.ask(f"api/jobs/{job['id']}/cancel", {})

    def leave_run(self, name: str) -> None:
        """A finished run, as the command line leaves it."""
        folder = self.runs / name
        folder.mkdir(parents=True)
        started = {"event": "Started", "time": time.time(), "pid": 1, "steps": 9, "method": "hra"}
        ended = {"event": "Finished", "time": time.time(), "step": 9, "seconds": 1.0}
        text = "".join(f"{json.dumps(event)}\n" for event in (started, ended))
        (folder / "events.jsonl").write_text(text)

    def job(self, name: str) -> dict[str, Any]:
        (found,) = [job for job in self.ask("api/jobs")["jobs"] if job["name"] == name]
        return found


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

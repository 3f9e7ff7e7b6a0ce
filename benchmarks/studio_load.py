"""How the studio behaves under load: many clients polling, some making images, one training.

`python -m benchmarks.studio_load --json benchmarks/results/studio_load.json` starts a studio on the
pocket model, lists 1,000 runs in it, starts a training, waits for its first step, and prints
errors, percentiles of the answers by what was asked, and what the server's process took. The issue
asks for 50 and 8 clients, 2 minutes, 0 errors and a 95th percentile of 300 ms on 2 cores. `--page`
measures the page in Chromium first. On a machine that others use, start it with `nice -n -15`: the
studio, its workers and the clients keep the niceness that they have among themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .support.studio_server import RUNS, Server, machine, studio

PACE = 1.5
"""Seconds between two looks of a page."""
TRAINING = {"kind": "dreambooth", "subject": "robot", "config": {"max_train_steps": 90000}}
IMAGES = {"prompts": ["a photo of a dog on the beach"], "num_images": 1}
LAST_IMAGES = 120.0
"""Seconds that images get which were asked for before the end."""


@dataclass
class Tally:
    """What the clients have seen: milliseconds by path, errors, and seconds of each image."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    images: list[float] = field(default_factory=list)
    begun: int = 0


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--makers", type=int, default=8)
    parser.add_argument("--page", action="store_true", help="measure the page in Chromium too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with studio() as server:
        report = {**machine(), "first_list_ms": first_list(server)}
        if options.page:
            from .studio_page import measure as measure_page

            report["page"] = measure_page(server, idle_seconds=20)
        report["load"] = asyncio.run(measure(server, options))
    report["load_average_after"] = round(os.getloadavg()[0], 1)
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(f"{text}\n", "utf-8")


def first_list(server: Server) -> int:
    """Milliseconds of the first look at the list of runs."""
    begun = time.monotonic()
    answer = httpx.get(f"{server.url}api/jobs", timeout=60).raise_for_status().json()
    assert answer["total"] == RUNS
    return round(1000 * (time.monotonic() - begun))


async def measure(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """What the clients saw, and what it cost."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        training = (await client.post("api/jobs", json=TRAINING)).json()["id"]
        first = await first_step(client, training)
        tally, cpu, begun = Tally(), server.cpu(), time.monotonic()
        until = begun + options.seconds
        pollers = [poll(client, training, until, tally, n) for n in range(options.pollers)]
        makers = [make(client, until, tally) for _ in range(options.makers)]
        ends = await asyncio.gather(*pollers, *makers, return_exceptions=True)
        tally.errors += [repr(end) for end in ends if end is not None]
        spent, seconds = server.cpu() - cpu, time.monotonic() - begun
        last = (await client.get(f"api/jobs/{training}")).json()
    return {
        "seconds": options.seconds,
        "clients": [options.pollers, options.makers],
        **summary(tally),
        "server_share_of_a_core": round(spent / seconds, 3),
        "server_ms_per_answer": round(1000 * spent / sum(map(len, tally.times.values())), 1),
        "training": {"status": last["status"], "steps": [first, last["step"]]},
    }


async def first_step(client: httpx.AsyncClient, training: str) -> int:
    """Wait until the training is under way; its step."""
    while True:
        job = (await client.get(f"api/jobs/{training}")).json()
        if job["status"] not in ("queued", "running"):
            raise RuntimeError(f"the training is {job['status']}: {job['error']}")
        if job["step"]:
            return int(job["step"])
        await asyncio.sleep(0.5)


def summary(tally: Tally) -> dict[str, Any]:
    """Percentiles of all answers, and of each path."""
    every = sorted(time for times in tally.times.values() for time in times)
    return {
        "answers": len(every),
        "errors": len(tally.errors),
        "first_errors": tally.errors[:3],
        "median_ms": round(statistics.median(every)),
        "p95_ms": percentile(every),
        "worst_ms": round(every[-1]),
        "p95_ms_by_path": {path: percentile(sorted(t)) for path, t in tally.times.items()},
        "images": {
            "asked": tally.begun,
            "made": len(tally.images),
            "median_s": round(statistics.median(tally.images), 1) if tally.images else None,
            "worst_s": round(max(tally.images), 1) if tally.images else None,
        },
    }


def percentile(ordered: list[float]) -> int:
    """The 95th of values in order."""
    return round(ordered[int(0.95 * len(ordered))])


async def poll(
    client: httpx.AsyncClient, training: str, until: float, tally: Tally, number: int
) -> None:
    """A page that looks again every 1.5 seconds at list and run, and is loaded anew at times."""
    paths = {
        "list": "api/jobs?group=all&q=&page=1&per_page=24",
        "run": f"api/jobs/{training}",
        "images": "api/jobs?kind=generate&per_page=6&page=1",
        "curves": f"api/jobs/{training}/curves",
        "page": "",
    }
    names = list(paths)
    await asyncio.sleep(PACE * number / 50)
    turn = number
    while time.monotonic() < until:
        begun = time.monotonic()
        name = names[turn % len(names)]
        turn += 1
        try:
            (await client.get(paths[name])).raise_for_status()
            tally.times[name].append(1000 * (time.monotonic() - begun))
        except httpx.HTTPError as error:
            tally.errors.append(f"{name}: {error!r}")
        await asyncio.sleep(max(0.0, PACE - (time.monotonic() - begun)))


async def make(client: httpx.AsyncClient, until: float, tally: Tally) -> None:
    """Somebody who makes one image after the other, and waits for each."""
    while time.monotonic() < until:
        begun = time.monotonic()
        answer = await client.post("api/generate", json={"config": IMAGES})
        tally.times["generate"].append(1000 * (time.monotonic() - begun))
        if answer.status_code != 202:
            tally.errors.append(f"generate: {answer.status_code} {answer.text[:100]}")
            return
        tally.begun += 1
        status = await ended(client, answer.json()["id"], until + LAST_IMAGES, tally)
        if status == "succeeded":
            tally.images.append(time.monotonic() - begun)
        else:
            tally.errors.append(f"images: {status}")


async def ended(client: httpx.AsyncClient, job: str, until: float, tally: Tally) -> str:
    """How a job ended; `late` where it has not in time."""
    while time.monotonic() < until:
        begun = time.monotonic()
        status = str((await client.get(f"api/jobs/{job}")).json()["status"])
        tally.times["image"].append(1000 * (time.monotonic() - begun))
        if status not in ("queued", "running"):
            return status
        await asyncio.sleep(0.7)
    return "late"


if __name__ == "__main__":
    main()

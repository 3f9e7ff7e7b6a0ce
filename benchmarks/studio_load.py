"""How the studio behaves under load: many clients polling, some making images, one training.

`python -m benchmarks.studio_load [--seconds 30]` starts a studio on the pocket model in a folder
that vanishes, lists 1,000 runs in it, starts a training, and prints errors, percentiles of the
answers and what an idle page costs. The issue asks for 50 and 8 clients, 0 errors and 300 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
POLLED = ("api/jobs", "api/jobs?kind=generate&per_page=6", "")
RUNS = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--makers", type=int, default=8)
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_runs(place / "runs")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["--port", str(port), "--data", str(place / "data"), "--runs", str(place / "runs")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [sys.executable, "app.py", *words], cwd=ROOT, env=environment
        ) as server:
            try:
                report = asyncio.run(measure(f"http://127.0.0.1:{port}/", server.pid, options))
            finally:
                server.terminate()
    print(json.dumps(report, indent=2))


def write_runs(folder: Path) -> None:
    """Finished runs as the command line leaves them."""
    for number in range(RUNS):
        run = folder / f"run-{number:04d}"
        run.mkdir(parents=True)
        started = {
            "event": "Started",
            "time": 1.7e9 + number,
            "pid": 1,
            "steps": 9,
            "method": "hra",
        }
        ended = {"event": "Finished", "time": 1.7e9 + number + 1, "step": 9, "seconds": 1.0}
        (run / "events.jsonl").write_text(f"{json.dumps(started)}\n{json.dumps(ended)}\n")


async def measure(url: str, pid: int, options: argparse.Namespace) -> dict[str, object]:
    """The report; every time in milliseconds."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await opened(client)
        begun = time.monotonic()
        (await client.get("api/jobs")).raise_for_status()
        first = 1000 * (time.monotonic() - begun)
        idle = await idle_cost(pid)
        body = {"kind": "dreambooth", "subject": "robot", "config": {"max_train_steps": 90000}}
        training = (await client.post("api/jobs", json=body)).json()["id"]
        until = time.monotonic() + options.seconds
        times: list[float] = []
        errors: list[str] = []
        made: list[int] = []
        pollers = [poll(client, until, times, errors, n) for n in range(options.pollers)]
        makers = [make(client, until, errors, made) for _ in range(options.makers)]
        ends = await asyncio.gather(*pollers, *makers, return_exceptions=True)
        errors += [repr(end) for end in ends if end is not None]
        step = (await client.get(f"api/jobs/{training}")).json()["step"]
        for _ in range(2):
            await client.post(f"api/jobs/{training}/cancel")
    times.sort()
    return {
        "runs_in_the_list": RUNS,
        "first_list_ms": round(first),
        "idle_share_of_a_core": round(idle, 4),
        "answers": len(times),
        "errors": len(errors),
        "first_errors": errors[:3],
        "median_ms": round(statistics.median(times)),
        "p95_ms": round(times[int(0.95 * len(times))]),
        "worst_ms": round(times[-1]),
        "images_made": sum(made),
        "training_step": step,
        "load_average": os.getloadavg()[0],
    }


async def opened(client: httpx.AsyncClient) -> None:
    """Wait until the studio answers."""
    for _ in range(600):
        try:
            (await client.get("api/health")).raise_for_status()
            return
        except httpx.HTTPError:
            await asyncio.sleep(0.2)
    raise RuntimeError("the studio did not open")


async def idle_cost(pid: int) -> float:
    """The share of a core that the server takes while an idle page is open."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(10)
    return (sum(process.cpu_times()[:2]) - before) / 10


async def poll(
    client: httpx.AsyncClient, until: float, times: list[float], errors: list[str], number: int
) -> None:
    """A page that looks again every 1.5 seconds, as ours does."""
    await asyncio.sleep(1.5 * number / 50)
    turn = number
    while time.monotonic() < until:
        begun = time.monotonic()
        path = POLLED[turn % len(POLLED)]
        turn += 1
        try:
            (await client.get(path)).raise_for_status()
            times.append(1000 * (time.monotonic() - begun))
        except httpx.HTTPError as error:
            errors.append(f"{path}: {error!r}")
        await asyncio.sleep(max(0.0, 1.5 - (time.monotonic() - begun)))


async def make(client: httpx.AsyncClient, until: float, errors: list[str], made: list[int]) -> None:
    """Somebody who makes one image after the other."""
    config = {"prompts": ["a photo of a dog on the beach"], "num_images": 1}
    while time.monotonic() < until:
        answer = await client.post("api/generate", json={"config": config})
        if answer.status_code == 422 and "waiting already" in answer.text:
            await asyncio.sleep(1)
            continue
        if answer.status_code != 202:
            errors.append(f"generate: {answer.status_code} {answer.text[:100]}")
            return
        path = f"api/jobs/{answer.json()['id']}"
        while time.monotonic() < until:
            job = (await client.get(path)).json()
            if job["status"] == "succeeded":
                made.append(1)
                break
            if job["status"] not in ("queued", "running"):
                errors.append(f"generate: {job['status']} {job['error']}")
                break
            await asyncio.sleep(0.7)


if __name__ == "__main__":
    main()

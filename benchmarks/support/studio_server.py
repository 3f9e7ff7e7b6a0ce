"""A studio to measure: on the pocket model, in a folder that vanishes, with 1,000 runs listed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
RUNS = 1000
PATIENCE = 300.0


@dataclass(frozen=True)
class Server:
    """Where it answers, and its process."""

    url: str
    process: psutil.Process
    seconds_to_open: float

    def cpu(self) -> float:
        """Seconds of processor time that the server itself has taken; its workers not counted."""
        return sum(self.process.cpu_times()[:2])


@contextmanager
def studio(*, runs: int = RUNS) -> Iterator[Server]:
    """A studio that was just started, at work until the block ends; one thread per worker."""
    with TemporaryDirectory() as scratch, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        place = Path(scratch)
        write_runs(place / "runs", runs)
        words = ["--port", str(port), "--data", str(place / "data"), "--runs", str(place / "runs")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        begun = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "app.py", *words], cwd=ROOT, env=environment
        ) as server:
            try:
                url = f"http://127.0.0.1:{port}/"
                await_health(url)
                opened = time.monotonic() - begun
                yield Server(url, psutil.Process(server.pid), opened)
                cancel_all(url)
            finally:
                server.terminate()


def await_health(url: str) -> None:
    """Wait until the studio answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            httpx.get(f"{url}api/health").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise RuntimeError("the studio did not open")


def cancel_all(url: str) -> None:
    """End at once whatever waits or runs."""
    query = {"group": "active", "kind": "dreambooth,generate"}
    for job in httpx.get(f"{url}api/jobs", params=query, timeout=60).json()["jobs"]:
        for _ in range(2):
            httpx.post(f"{url}api/jobs/{job['id']}/cancel", timeout=60)


def write_runs(folder: Path, count: int) -> None:
    """Finished runs as the command line leaves them."""
    for number in range(count):
        run = folder / f"run-{number:04d}"
        run.mkdir(parents=True)
        begun = 1.7e9 + number
        started = {"event": "Started", "time": begun, "pid": 1, "steps": 9, "method": "hra"}
        ended = {"event": "Finished", "time": begun + 1, "step": 9, "seconds": 1.0}
        (run / "events.jsonl").write_text(f"{json.dumps(started)}\n{json.dumps(ended)}\n")


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    return {
        "cores": os.cpu_count(),
        "niceness_of_server": os.getpriority(os.PRIO_PROCESS, 0),
        "load_average": round(os.getloadavg()[0], 1),
    }

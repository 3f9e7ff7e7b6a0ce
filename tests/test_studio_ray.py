"""Trainings of the studio on a Ray cluster of one node that asks for a token."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from orthodiff.studio.cli import main
from orthodiff.studio.services.jobs.progress import log_tail, read_progress
from orthodiff.studio.services.jobs.ray import RayCluster, RayExecutor
from orthodiff.studio.state import Studio
from tests.runs import ROOT
from tests.test_studio_jobs import ended, has_steps, submit, wait

SECONDS = 300


def test_what_is_missing_for_a_cluster_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--executor", "ray"]) == 2
    assert "--ray_address http://HOST:8265" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--executor", "ray", "--ray_jobs", "-1"])
    assert "give 0, 1, 2" in capsys.readouterr().err


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A node of `ray start` on the loopback device, whose token file is this user's alone."""
    if find_spec("ray") is None:  # imported later: it reads its environment as it is imported
        pytest.skip("Ray is not installed: pip install 'orthodiff[cluster]'")
    place = tmp_path_factory.mktemp("ray")
    token = place / "token"
    before = os.umask(0o077)
    token.write_text("0123456789abcdef" * 4)
    os.umask(before)
    address = f"http://127.0.0.1:{free_port()}"
    options = ["--node-ip-address", "127.0.0.1", "--port", str(free_port()), "--num-cpus", "2"]
    options += ["--include-dashboard", "true", "--dashboard-host", "127.0.0.1"]
    options += ["--dashboard-port", address.rpartition(":")[2], "--disable-usage-stats", "--block"]
    options += ["--ray-client-server-port", str(free_port())]
    options += ["--temp-dir", f"/tmp/ray-studio-{os.getpid()}"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": "",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options]
        with (place / "log").open("wb") as log:
            node = subprocess.Popen(start, stdout=log, stderr=log, start_new_session=True)
        try:
            await_dashboard(address, node, place / "log")
            yield RayCluster(address)
        finally:
            if node.poll() is None:
                for process in psutil.Process(node.pid).children(recursive=True):
                    process.kill()
                node.kill()
                node.wait(60)


def await_dashboard(address: str, node: subprocess.Popen[bytes], log: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    end = time.monotonic() + SECONDS
    while time.monotonic() < end and node.poll() is None:
        try:
            JobSubmissionClient(address).list_jobs()
        except (ConnectionError, RuntimeError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


def open_studio(tiny: Path, place: Path, cluster: RayCluster) -> Studio:
    return Studio.open(bases=[str(tiny)], data=place / "data", runs=place / "runs", cluster=cluster)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_training_on_the_cluster_is_followed_stopped_killed_and_resumed(
    tiny: Path, tmp_path: Path, cluster: RayCluster
) -> None:
    studio = open_studio(tiny, tmp_path, cluster)
    job = submit(studio, steps=100_000)
    running = wait(studio, job, has_steps)
    executor = studio.jobs.executors["training"]
    assert isinstance(executor, RayExecutor)
    assert len(executor.client.list_jobs()) == 1
    assert executor.start(running, 0) == running.handle
    assert len(executor.client.list_jobs()) == 1, "a second submission did not find the first"
    assert (job.folder / "log.txt").read_text(), "what it prints is lost"

    studio.close()
    studio = open_studio(tiny, tmp_path, cluster)
    step = read_progress(job.folder).step
    wait(studio, job, lambda one: read_progress(one.folder).step > step)
    studio.jobs.pause("ann", job.id)
    paused = wait(studio, job, ended)
    assert paused.status == "interrupted"
    assert "a checkpoint is saved" in paused.error, log_tail(job.folder)

    studio.jobs.resume("ann", job.id)
    reached = int(paused.summary["step"])
    wait(studio, job, lambda one: has_steps(one) and read_progress(one.folder).step > reached)
    for process in trainings(job.id):
        process.kill()
    killed = wait(studio, job, ended)
    assert killed.status == "interrupted"
    assert "Resume" in killed.error

    studio.jobs.resume("ann", job.id)
    wait(studio, job, has_steps)
    studio.jobs.cancel("ann", job.id)
    assert wait(studio, job, ended).status == "cancelled"
    studio.close()

    words = ["studio", "--executor", "ray", "--ray_address", cluster.address]
    words += ["--data", str(tmp_path / "other"), "--port", str(free_port()), "--base", str(tiny)]
    stranger = subprocess.run(
        [sys.executable, "-m", "orthodiff", *words],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_TOKEN": "f" * 64},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert stranger.returncode == 2, stranger.stderr
    assert f"The Ray cluster at {cluster.address} cannot be used" in stranger.stderr


def trainings(job_id: str) -> list[psutil.Process]:
    """The processes that do a job, wherever Ray has started them."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[-1] == job_id
    ]

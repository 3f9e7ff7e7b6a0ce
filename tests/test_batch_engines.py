"""Workers killed, drivers killed, ranks, a cluster: every image exactly once, the identical set."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orthodiff.batch.engines.processes import ProcessEngine
from orthodiff.batch.run import plan_batch, run_batch
from orthodiff.cli.generate import GenerateOptions
from orthodiff.cli.main import main
from orthodiff.settings import validate
from tests.batches import Call, images, records

ROOT = Path(__file__).parent.parent
SECONDS = 600


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Workers have one thread each; so has what they are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def many(folder: Path, count: int) -> Path:
    path = folder / "many.txt"
    path.write_text("".join(f"a dog in the snow --d {number}\n" for number in range(count)))
    return path


def words(base: Path, prompts: Path, out: Path, adapters: list[Path], *more: object) -> list[str]:
    given: list[object] = [
        "generate",
        "--pretrained_model_name_or_path",
        base,
        "--prompts",
        prompts,
    ]
    given += ["--adapters", *adapters, "--batch_size", 4, "--num_inference_steps", 2]
    given += ["--output_dir", out, *more]
    return [str(word) for word in given]


def exactly_once(out: Path, whole: Path) -> None:
    """Every image of `whole` is in `out`, with the same bits, and was recorded a single time."""
    assert images(out) == images(whole)
    ids = [record["id"] for record in records(out)]
    assert len(ids) == len(set(ids)) == len(images(whole))
    assert not list(out.glob(".partial*"))


def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    tiny: Path, adapters: list[Path], tmp_path: Path
) -> None:
    prompts = many(tmp_path, 9)
    assert main(words(tiny, prompts, tmp_path / "whole", adapters[:2])) == 0
    given = {
        "pretrained_model_name_or_path": str(tiny), "prompts": prompts,
        "output_dir": tmp_path / "out",
        "adapters": [str(adapter) for adapter in adapters[:2]], "batch_size": 4,
        "num_inference_steps": 2, "workers": 2,
    }  # fmt: skip
    options = validate(GenerateOptions, given)
    killed: list[int] = []
    with options.open_engine() as engine:
        assert isinstance(engine, ProcessEngine)

        def kill(record: object, summary: object) -> None:
            if not killed:
                busy = next(worker for worker in engine.workers if worker.chunks)
                killed.append(busy.process.pid or 0)
                busy.process.kill()

        plan = plan_batch(options.rows()[0], engine, options.settings())
        summary = run_batch(plan, engine, options.settings(), on_note=print, on_result=kill)
        assert killed
        assert killed[0] not in [worker.process.pid for worker in engine.workers]
    assert (summary.made, summary.failed) == (18, 0)
    exactly_once(tmp_path / "out", tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_told_once(tmp_path: Path, capsys) -> None:
    prompts = many(tmp_path, 3)
    given = words(tmp_path / "nowhere", prompts, tmp_path / "out", [], "--workers", 2)
    given = [word for word in given if word != "--adapters"]
    assert main(given) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ranks_share_a_batch(
    call: Call, adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--adapters", *adapters[:2], "--num_images", 3]
    call(*given, out="whole")
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        code, printed = call(*given)
        assert code == 0, printed
        made.append(len(records(tmp_path / "out")))
    assert 0 < made[0] < made[1] == 24
    assert len(records(tmp_path / "out", "batch")) == 1
    exactly_once(tmp_path / "out", tmp_path / "whole")


def begin(given: list[str], **environment: str) -> subprocess.Popen[bytes]:
    """Start `generate` as a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "orthodiff", *given],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_after(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Kill -9 once so many images are recorded."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with_lines = out / "manifest.jsonl"
        if with_lines.exists() and with_lines.read_bytes().count(b'"kind": "image"') >= count:
            break
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("engine", "count"),
    [
        ("in-process", 10),
        pytest.param("in-process", 100, marks=pytest.mark.slow),
        pytest.param("processes", 100, marks=pytest.mark.slow),
        pytest.param("ray", 100, marks=pytest.mark.slow),
    ],
)
def test_a_killed_driver_goes_on(
    tiny: Path, adapters: list[Path], tmp_path: Path, engine: str, count: int
) -> None:
    """With 100 prompts and three adapters these are batches of 300 images, killed twice."""
    if engine == "ray":
        pytest.importorskip("ray")
    prompts, chosen = many(tmp_path, count), adapters if count > 10 else adapters[:1]
    more = {"in-process": [], "processes": ["--workers", 2]}.get(
        engine, ["--engine", "ray", "--workers", 2]
    )
    assert main(words(tiny, prompts, tmp_path / "whole", chosen)) == 0
    given = words(tiny, prompts, tmp_path / "out", chosen, *more)
    total = count * len(chosen)
    for share in (0.2, 0.6) if count > 10 else (0.2,):
        kill_after(begin(given), tmp_path / "out", int(share * total))
        assert len(records(tmp_path / "out")) < total
    assert main(given) == 0
    exactly_once(tmp_path / "out", tmp_path / "whole")


@pytest.mark.slow
def test_two_launched_processes_make_one_batch(
    tiny: Path, adapters: list[Path], tmp_path: Path
) -> None:
    """As `accelerate launch --num_processes 2 -m orthodiff generate` starts them."""
    prompts = many(tmp_path, 50)
    assert main(words(tiny, prompts, tmp_path / "whole", adapters[:2])) == 0
    given = words(tiny, prompts, tmp_path / "out", adapters[:2])
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "orthodiff"]
    process = subprocess.run(
        [sys.executable, "-m", *launch, *given],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    exactly_once(tmp_path / "out", tmp_path / "whole")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of `ray start` on the loopback device that asks for a token; its environment."""
    pytest.importorskip("ray")
    port = _free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_ADDRESS": "",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    command = [str(Path(sys.executable).with_name("ray"))]
    start = ["start", "--head", "--node-ip-address", "127.0.0.1", "--port", str(port)]
    start += ["--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"]
    start += ["--temp-dir", f"/tmp/ray-test-{os.getpid()}", "--block"]
    process = subprocess.Popen(
        [*command, *start],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(port)
    yield {**environment, "ADDRESS": f"127.0.0.1:{port}"}
    process.terminate()
    process.wait(60)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with socket.socket() as knocking:
            if knocking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the cluster did not start")


@pytest.mark.slow
def test_a_running_cluster_with_a_token(
    tiny: Path, adapters: list[Path], tmp_path: Path, cluster: dict[str, str]
) -> None:
    """Without the token nobody gets in; with it an actor is killed, and nothing is lost."""
    prompts, address = many(tmp_path, 60), cluster.pop("ADDRESS")
    assert main(words(tiny, prompts, tmp_path / "whole", adapters)) == 0
    more = ["--engine", "ray", "--workers", 2, "--ray_address", address]
    given = words(tiny, prompts, tmp_path / "out", adapters, *more)
    refused = begin(given, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64)
    _, errors = refused.communicate(timeout=SECONDS)
    assert refused.returncode == 2, errors.decode()
    assert "cannot be used" in errors.decode()
    assert not (tmp_path / "out").exists()
    process = begin(given, **cluster)
    _kill_an_actor(process, tmp_path / "out")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors.decode()
    exactly_once(tmp_path / "out", tmp_path / "whole")


def _kill_an_actor(process: subprocess.Popen[bytes], out: Path) -> None:
    """Kill -9 a worker of the cluster once the batch is under way."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        manifest = out / "manifest.jsonl"
        if manifest.exists() and manifest.read_bytes().count(b'"kind": "image"') >= 20:
            break
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.02)
    actors = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_actor(pid)]
    assert actors
    os.kill(actors[0], signal.SIGKILL)


def _is_actor(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::RayActor")
    except OSError:
        return False

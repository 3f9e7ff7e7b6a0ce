"""Several processes of one run, each with folders of its own: all train on the same, or all end."""

import os
import signal
import socket
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from orthodiff.training.checkpoints.sealed import damage, list_checkpoints
from orthodiff.training.events.history import read_history
from orthodiff.training.optim.share import average
from tests.forks import fork, fork_group
from tests.runs import arguments, make_images, train, weights

WITHIN = 60
"""Seconds in which every process of a run ends, once one of them has."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures", count=5)


def commands(tiny: Path, images: Path, folder: Path, count: int, **flags: object) -> list:
    """Command lines of `count` processes that share neither output nor cache."""
    return [
        arguments(
            tiny, images, folder / f"{rank}" / "run", cache_dir=folder / f"{rank}" / "cache",
            **flags,
        )
        for rank in range(count)
    ]  # fmt: skip


def end(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Their exit codes, once the first has ended; None for one that goes on for too long."""
    while all(process.is_alive() for process in processes):
        processes[0].join(0.05)
    for process in processes:
        process.join(WITHIN)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def run(tiny: Path, images: Path, folder: Path, count: int, **flags: object) -> None:
    """Train in `count` processes to the end."""
    folder.mkdir(exist_ok=True)
    assert end(fork_group(commands(tiny, images, folder, count, **flags), folder)) == [0] * count


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_history(folder).steps]


def test_only_the_first_process_needs_the_checkpoint(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    """The other one has an older checkpoint of its own, which must not count."""
    flags = {"train_batch_size": 1, "checkpointing_steps": 1}
    run(tiny, images, tmp_path / "whole", 2, **flags, max_train_steps=4)
    parts = tmp_path / "parts"
    run(tiny, images, parts, 2, **flags, max_train_steps=2)
    stale = train(tiny, images, parts / "1" / "run", train_batch_size=2, max_train_steps=1)
    assert stale == 0
    before = weights(parts / "1" / "run")
    again = {"resume_from_checkpoint": "latest", "max_train_steps": 4}
    run(tiny, images, parts, 2, **flags, **again)
    assert weights(parts / "0" / "run") == weights(tmp_path / "whole" / "0" / "run")
    assert losses(parts / "0" / "run") == losses(tmp_path / "whole" / "0" / "run")
    assert weights(parts / "1" / "run") == before


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    steps = {2: 2, 3: 4, 1: 6}
    for count, last in steps.items():
        again = {"resume_from_checkpoint": "latest", "max_train_steps": last}
        run(tiny, images, tmp_path / "run", count, train_batch_size=6 // count, **again)
    assert train(tiny, images, tmp_path / "one", train_batch_size=6, max_train_steps=6) == 0
    assert losses(tmp_path / "run" / "0" / "run") == pytest.approx(
        losses(tmp_path / "one"), rel=1e-4
    )


def test_a_process_with_other_data_or_settings_ends_them_all_in_a_sentence(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    others = make_images(tmp_path / "others", count=4)
    first, second = commands(tiny, images, tmp_path, 2)
    for name, change, sentence in (
        ("data", {"instance_data_dir": others}, "process 1 has other images than process 0"),
        ("seed", {"seed": 5}, "--seed"),
        ("missing", {"instance_data_dir": tmp_path / "none"}, None),
    ):
        logs = tmp_path / name
        logs.mkdir()
        changed = [*second, *(f"--{key}={value}" for key, value in change.items())]
        assert end(fork_group([first, changed], logs)) == [2, 2]
        told = [(logs / f"{rank}.log").read_text().count("error: ") for rank in range(2)]
        assert told == ([1, 0] if sentence else [0, 1])
        assert (sentence or "none") in (logs / f"{0 if sentence else 1}.log").read_text()
    assert not (tmp_path / "0" / "run").exists()


def other_versions() -> None:
    """From here on this process has another torch, as far as it can tell."""
    from orthodiff.training.run import agreement

    agreement.version = lambda name: "2.11.0"  # type: ignore[assignment]


def test_processes_of_other_versions_end_in_a_sentence(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    processes = fork_group(
        commands(tiny, images, tmp_path, 2), tmp_path, before_last=other_versions
    )
    assert end(processes) == [2, 2]
    said = (tmp_path / "0.log").read_text()
    assert f"torch is '2.11.0' in process 1, but '{torch.__version__}' in process 0" in said
    assert not (tmp_path / "0" / "run").exists()


def test_a_killed_process_ends_the_others_and_the_checkpoint_is_whole(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    flags = {"max_train_steps": 5000, "checkpointing_steps": 2, "checkpoints_total_limit": 2}
    processes = fork_group(commands(tiny, images, tmp_path, 2, **flags), tmp_path)
    out = tmp_path / "0" / "run"
    while not list_checkpoints(out) and all(process.is_alive() for process in processes):
        processes[0].join(0.02)
    os.kill(processes[1].pid or 0, signal.SIGKILL)
    assert end(processes) == [1, -signal.SIGKILL]
    assert "another process of this run ended" in (tmp_path / "0.log").read_text()
    assert any(damage(folder) is None for folder in list_checkpoints(out))
    end_event = read_history(out).end
    assert end_event is not None
    assert end_event["event"] == "Failed"


def drift() -> None:
    """From here on this process's updates leave one bit otherwise than they should."""
    from orthodiff.training.optim.step import OptimizerStep

    update = OptimizerStep.update

    def updated(self, *arguments: object) -> object:
        result = update(self, *arguments)
        with torch.no_grad():
            self.parameters[0].view(-1)[0] += 1e-6
        return result

    OptimizerStep.update = updated


def test_parameters_that_drift_apart_end_the_run_before_a_checkpoint(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    words = commands(tiny, images, tmp_path, 2, max_train_steps=5, checkpointing_steps=2)
    assert end(fork_group(words, tmp_path, before_last=drift)) == [1, 1]
    told = (tmp_path / "0.log").read_text()
    assert "After step 2 process 1 has other parameters than process 0" in told
    assert not list_checkpoints(tmp_path / "0" / "run")


def test_a_port_in_use_is_told(tiny: Path, images: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        rank = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
        words = arguments(tiny, images, tmp_path / "run")
        process = fork(words, environment={**place, **rank}, log=tmp_path / "log")
        assert end([process]) == [2]
    told = (tmp_path / "log").read_text()
    assert f"cannot meet at 127.0.0.1:{port}" in told
    assert "--main_process_port" in told


@pytest.mark.parametrize("signal_of", [0, 1])
def test_one_step_shares_gradients_loss_and_signals_in_one_call(signal_of: int) -> None:
    """What a process adds is divided by their number, and a missing gradient is zeros."""
    calls = []

    class Two:
        num_processes = 2

        def reduce(self, flat: torch.Tensor, how: str) -> torch.Tensor:
            calls.append(how)
            return flat / 2  # the other process adds zeros

    like = [torch.zeros(2, 3), torch.zeros(4)]
    gradients, (loss, flags) = average(
        Two(), [torch.ones(2, 3), None], like, torch.tensor(3.0), torch.eye(2)[signal_of]
    )
    assert calls == ["mean"]
    assert [g.tolist() for g in gradients] == [[[0.5] * 3] * 2, [0.0] * 4]
    assert loss.item() == 1.5
    assert flags.argmax() == signal_of

"""A terminal or pipe that is closed loses its reader, and nothing else."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orthodiff.cli.streams import SurvivingStream
from orthodiff.training.checkpoints.sealed import list_checkpoints
from orthodiff.training.events.history import read_history
from orthodiff.training.events.signals import StopSignal
from tests.forks import fork
from tests.runs import ROOT, arguments, make_images


def test_a_reader_that_leaves_is_not_missed() -> None:
    reading, writing = os.pipe()
    stream = SurvivingStream(os.fdopen(writing, "w", buffering=1))
    assert stream.write("told\n") == 5
    assert os.read(reading, 9) == b"told\n"
    os.close(reading)
    for _ in range(3):
        assert stream.write("nobody hears\n") == 13
        stream.flush()
    stream.close()


def test_a_full_disk_under_a_log_loses_only_the_log() -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        stream = SurvivingStream(full)
        for _ in range(2):
            stream.write("text\n")


def test_letters_that_a_terminal_does_not_know_are_spelled_out() -> None:
    told = io.BytesIO()
    terminal = io.TextIOWrapper(told, encoding="ascii")
    SurvivingStream(terminal).write("caf\udce9 \xe9")
    terminal.flush()
    assert told.getvalue() == rb"caf\udce9 \xe9"


def test_a_run_whose_pipe_is_closed_goes_on_to_its_end(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = arguments(tiny, make_images(tmp_path / "pictures"), out, max_train_steps=10)
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert read_history(out).step == 10
    assert (out / "adapter_config.json").is_file()


def test_a_terminal_that_closes_saves_as_sigterm_does(tiny: Path, tmp_path: Path) -> None:
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, which a training obeys")
    out = tmp_path / "run"
    words = arguments(
        tiny, make_images(tmp_path / "pictures"), out, max_train_steps=4000, checkpointing_steps=5
    )
    process = fork(words)
    while not list_checkpoints(out) and process.is_alive():
        process.join(0.01)
    os.kill(process.pid, signal.SIGHUP)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGHUP
    history = read_history(out)
    assert history.end is not None
    assert "stopped by SIGHUP" in history.end["reason"]
    assert (out / f"checkpoint-{history.step}").is_dir()


def test_nohup_keeps_its_promise() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop, stop.between_steps():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)

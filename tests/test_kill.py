"""Killed at any moment, also inside a save, a run ends at the bits it would have reached anyway."""

import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from orthodiff.training.checkpoints.sealed import damage, list_checkpoints
from orthodiff.training.events.history import read_history
from tests.forks import fork
from tests.runs import arguments, make_images, weights

FLAGS = {
    "checkpointing_steps": 1,
    "checkpoints_total_limit": 2,
    "validation_steps": 10,
    "validation_samples": 2,
    "validation_prompt": "sks dog",
    "lr_scheduler": "linear",
    "use_ema": "true",
}


def result(out: Path) -> tuple:
    """What must not depend on how often a run was interrupted."""
    history = read_history(out)
    assert history.end
    losses = [(event["step"], event["loss"], event["learning_rate"]) for event in history.steps]
    scores = [
        (event["step"], event["loss"], event["subject_similarity"]) for event in history.scores
    ]
    samples = [(path, (out / path).read_bytes()) for e in history.samples for path in e["paths"]]
    best = (history.end["best_step"], weights(out / "best"))
    return weights(out), losses, scores, samples, best


def kill_after(process: BaseProcess, out: Path, *, step: int, moment: float) -> bool:
    """Kill the process `moment` seconds after it reached `step`; whether it was still alive."""
    while read_history(out).step < step and process.is_alive():
        time.sleep(0.002)
    time.sleep(moment)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def kill_and_go_on(base: Path, tmp_path: Path, kills: int, seed: int) -> None:
    """Kill one run again and again at random moments, then compare it with one left alone."""
    images = make_images(tmp_path / "pictures")
    whole, out = tmp_path / "whole", tmp_path / "killed"
    flags = {**FLAGS, "max_train_steps": 10 * kills}
    words = [*arguments(base, images, out, **flags), "--resume_from_checkpoint=latest"]
    untouched = fork(arguments(base, images, whole, **flags))
    untouched.join()
    assert untouched.exitcode == 0
    chance, killed = random.Random(seed), 0
    for _ in range(kills):
        target = read_history(out).step + chance.randrange(2)
        killed += kill_after(fork(words), out, step=target, moment=chance.uniform(0, 0.1))
        assert not [path for path in list_checkpoints(out)[-2:] if damage(path)]
    assert killed == kills
    last = fork(words)
    last.join()
    assert last.exitcode == 0
    assert result(out) == result(whole)
    assert not list(out.glob(".aside"))


def test_a_few_kills(tiny: Path, tmp_path: Path) -> None:
    kill_and_go_on(tiny, tmp_path, kills=3, seed=0)


@pytest.mark.slow
def test_fifty_kills(tiny: Path, tmp_path: Path) -> None:
    kill_and_go_on(tiny, tmp_path, kills=50, seed=1)

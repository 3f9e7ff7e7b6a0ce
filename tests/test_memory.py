"""A run that the computer's memory does not suffice for: what it says, and what is left of it."""

import re
import resource
import time
from pathlib import Path

import psutil
import pytest

from orthodiff.training.checkpoints.sealed import find_checkpoint, load_checkpoint
from orthodiff.training.events.failures import oom_hint
from orthodiff.training.events.log import read_events
from orthodiff.training.options.config import RunConfig
from tests.runs import arguments, make_images, start, train


@pytest.mark.parametrize("first", [3, 12], ids=["computed", "replayed"])
def test_memory_that_runs_out_fails_the_run_and_spares_its_checkpoint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # every tensor is asked of the system
    images, run = make_images(tmp_path / "pictures"), tmp_path / "run"
    flags = {"train_batch_size": 8, "checkpointing_steps": 3, "checkpoints_total_limit": 2}
    process = start(arguments(tiny, images, run, max_train_steps=5000, **flags))
    while not (run / f"checkpoint-{first}").is_dir() and process.poll() is None:
        time.sleep(0.005)
    held = psutil.Process(process.pid).memory_info().vms
    resource.prlimit(process.pid, resource.RLIMIT_AS, (held // 2, held // 2))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "failed: out of memory: these help, the most first: --" in errors
    last = read_events(run / "events.jsonl")[-1]
    assert last["event"] == "Failed"
    assert last["reason"] in errors
    for switch in ("--gradient_checkpointing (saves", "--gradient_accumulation_steps 8 (saves"):
        assert switch in last["reason"]
    whole = find_checkpoint(run, "latest")
    assert whole is not None
    step = load_checkpoint(whole)["step"]
    helped = {
        "train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "gradient_checkpointing": "true",
        "max_train_steps": step + 1,
        "resume_from_checkpoint": "latest",
    }
    assert train(tiny, images, run, **helped) == 0


def test_switches_come_in_the_order_of_what_they_save_and_only_while_off() -> None:
    config = RunConfig(pretrained_model_name_or_path="base", train_batch_size=4)
    said = oom_hint(config)
    saves = [int(share) for share in re.findall(r"saves (\d+)", said)]
    assert saves == sorted(saves, reverse=True)
    assert saves[-1] > 0
    lean = config.model_copy(
        update={"gradient_checkpointing": True, "train_batch_size": 1, "mixed_precision": "bf16"}
    )
    assert oom_hint(lean).count("saves") == 1
    assert "half the --resolution" in oom_hint(lean)
    assert "--attention sdpa" in oom_hint(config.model_copy(update={"attention": "math"}))

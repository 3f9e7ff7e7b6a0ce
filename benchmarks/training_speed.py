"""Wall time of a whole training run next to diffusers' own DreamBooth script, process by process.

    python -m benchmarks.training_speed --peer PATH/train_dreambooth_lora.py \
        --json benchmarks/results/training_speed.json

The script is diffusers' `examples/dreambooth/train_dreambooth_lora.py`; fetch it yourself, and say
with `--peer_packages` where its requirements lie that this project does not have (torchvision).
All runs learn the same images of the pocket model's example dog, as many as fill a batch (the
script makes a smaller batch of what an epoch has left over): same steps, batch, resolution, rank
and optimizer, from an empty cache, with one checkpoint's worth of writing at the end. Neither
measures on the way. The script knows LoRA only, so its LoRA run is the yardstick for every method.
Runs take turns, one at a time on all cores; medians are reported, for ratios that of the ratios
within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import torch

from orthodiff.training.events.log import read_events

ROOT = Path(__file__).parent.parent
BASE, SUBJECT = ROOT / "assets" / "pocket", ROOT / "assets" / "subjects" / "dog"
PEER = "diffusers LoRA"
METHODS = {"orthodiff LoRA": "lora", "orthodiff HRA": "hra"}
GOAL_RATIO, GOAL_FIRST_STEP = 0.6, 10.0


@dataclass(frozen=True)
class Run:
    """Seconds of one process: on the clock, on the processors, and until its first step's end.

    `begun` is in unix seconds; `first_step` is 0 where the process has not told it.
    """

    begun: float
    wall: float
    processor: float
    first_step: float


def main() -> None:
    """Run, print the table and write the JSON."""
    options = parse()
    names = ([PEER] if options.peer else []) + list(METHODS)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            runs[name].append(race(name, options))
            print(f"round {number + 1}  {name:<16} {runs[name][-1].wall:7.1f} s", flush=True)
        if options.json:
            save(options, runs)
    print(table(runs))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="diffusers' train_dreambooth_lora.py")
    parser.add_argument(
        "--peer_commit", help="commit of diffusers it is from, and what was changed"
    )
    parser.add_argument("--peer_packages", type=Path, help="folder of packages only it needs")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def race(name: str, options: argparse.Namespace) -> Run:
    """One run of `name` in a folder of its own, from an empty cache.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        images.mkdir()
        for path in sorted(SUBJECT.glob("*.png"))[: options.batch]:
            shutil.copy(path, images)
        count = len(list(images.iterdir()))
        if count < options.batch:
            raise SystemExit(f"There are {count} images; --batch can be no larger.")
        run = watch(command(name, options, folder), environment(name, options, folder))
        return replace(run, first_step=run.first_step or told(folder / "run") - run.begun)


def told(run: Path) -> float:
    """When the first step ended, in unix seconds, as our events say."""
    return next(e["time"] for e in read_events(run / "events.jsonl") if e["event"] == "Step")


def command(name: str, options: argparse.Namespace, folder: Path) -> list[str]:
    """The same words for both, but for the script's name, the method and what it has no flag of."""
    words = f"""
        --pretrained_model_name_or_path {BASE} --instance_data_dir {folder / "images"}
        --resolution 64 --center_crop --train_batch_size {options.batch} --seed 0
        --max_train_steps {options.steps} --checkpointing_steps {options.steps}
        --rank {options.rank} --learning_rate 1e-3 --lr_scheduler constant --lr_warmup_steps 0
        --adam_weight_decay 1e-2 --max_grad_norm 1.0 --report_to tensorboard
        --output_dir {folder / "run"}
    """.split()
    words += ["--instance_prompt", "a photo of sks dog"]
    if name == PEER:
        return [sys.executable, str(options.peer), *words]
    words += ["--method", METHODS[name], "--validation_samples", "0"]
    return [sys.executable, "-m", "training", *words]


def environment(name: str, options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The same threads for both; the cache of encoded images is empty."""
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    packages = options.peer_packages if name == PEER else None
    paths = {"PYTHONPATH": os.pathsep.join([str(packages)] if packages else [str(ROOT)])}
    return {**os.environ, **threads, **paths, "XDG_CACHE_HOME": str(folder / "cache")}


def watch(words: list[str], variables: dict[str, str]) -> Run:
    """Run `words` to their end; diffusers' bar on stderr says `1/N` after the first step."""
    before, begun = os.times(), time.time()
    process = subprocess.Popen(
        words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said, first = "", 0.0
    for piece in pieces(process.stderr):
        said += piece
        if not first and re.search(r" 1/\d+ \[", said):
            first = time.time() - begun
    if process.wait():
        raise SystemExit(f"{' '.join(words)}\nfailed:\n{said[-4000:]}")
    wall, after = time.time() - begun, os.times()
    processor = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return Run(begun, wall, processor, first)


def pieces(stream: IO[bytes]) -> Iterator[str]:
    """What comes through a pipe, as soon as it does."""
    while piece := os.read(stream.fileno(), 65536):
        yield piece.decode(errors="replace")


def table(runs: dict[str, list[Run]]) -> str:
    """The figures as a Markdown table."""
    lines = ["| run | wall s | / diffusers | processor s | first step s |", "|---|---|---|---|---|"]
    for name, own in runs.items():
        wall, processor, first = (
            statistics.median(getattr(run, kind) for run in own)
            for kind in ("wall", "processor", "first_step")
        )
        share = f"{ratio(own, runs[PEER]):.3f}" if PEER in runs else ""
        lines.append(f"| {name} | {wall:.1f} | {share} | {processor:.1f} | {first:.1f} |")
    return "\n".join(lines)


def ratio(own: list[Run], others: list[Run]) -> float:
    """Median over the rounds of one wall time in units of another."""
    return statistics.median(a.wall / b.wall for a, b in zip(own, others, strict=True))


def save(options: argparse.Namespace, runs: dict[str, list[Run]]) -> None:
    """Write all figures, what they were taken on and what is aimed for."""
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "peer_packages")}
    results = {
        "machine": {"torch": torch.__version__, "cores": os.cpu_count()},
        "settings": {**settings, "peer": options.peer.name if options.peer else None},
        "goals": {"ratio": GOAL_RATIO, "first_step_seconds": GOAL_FIRST_STEP},
        "ratios": {name: ratio(own, runs[PEER]) for name, own in runs.items() if PEER in runs},
        "runs": {name: [asdict(run) for run in own] for name, own in runs.items()},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(f"{json.dumps(results, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    main()

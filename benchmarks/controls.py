"""Control on held-out control images: do images follow them, and still show their prompt?

    python -m benchmarks.controls --json benchmarks/results/controls.json --image FILE.png

Contestants train as processes on the same pairs, batches, noise and number of steps, and make the
same held-out images. What each one scored is written at once: a second call goes on from there.
How long a step takes is measured in the end, in short trainings one after another.
With `--learning_rates` each method first tries these rates for `--sweep_steps`, on images that are
neither trained on nor scored later, and takes the best: first the hint encoder alone, whose
rate the hint encoders of all others then have. `--rates FILE` takes what an earlier result chose.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import orthodiff
from benchmarks import controlnet
from benchmarks.support.control_scores import EACH, Judge, Test, ahead, open_test, sheet
from orthodiff.adapters import Method
from orthodiff.adapters.targets import ATTENTION_AND_GEGLU
from orthodiff.io.atomic import replace_file
from orthodiff.models import load_base
from orthodiff.training.events.history import read_history
from orthodiff.training.events.log import read_events
from orthodiff.training.options.adapter import make_method
from pocket.painted.pairs import write_pairs

BASE = "assets/pocket"
FINEST = tuple(
    f"{block}.resnets.*.{conv}"
    for block in ("down_blocks.0", "up_blocks.2")
    for conv in ("conv1", "conv2")
)
"""Convolutions on whole latents, where the pocket UNet has no attention; Stable Diffusion's has."""
WITH_CONVS = (*ATTENTION_AND_GEGLU, *FINEST)
USUAL_FLAGS, CONVS_FLAGS, FINEST_FLAGS = (
    ("--target_modules", *targets) for targets in (ATTENTION_AND_GEGLU, WITH_CONVS, FINEST)
)
LEARNED = {
    "hra-finest": ["--method", "hra", "--rank", "24", *FINEST_FLAGS],
    "hra-convs": ["--method", "hra", "--rank", "8", *CONVS_FLAGS],
    "hra": ["--method", "hra", "--rank", "8", *USUAL_FLAGS],
    "boft-m2": ["--method", "boft", "--block_size", "8", "--factors", "2", *USUAL_FLAGS],
    "boft-m4": ["--method", "boft", "--block_size", "8", "--factors", "4", *USUAL_FLAGS],
    "oft": ["--method", "oft", "--block_size", "8", *USUAL_FLAGS],
    "lora-finest": ["--method", "lora", *FINEST_FLAGS],
    "lora-convs": ["--method", "lora", *CONVS_FLAGS],
    "lora": ["--method", "lora", *USUAL_FLAGS],
    "hint": ["--method", "none"],
    controlnet.NAME: ["--method", "none"],
    f"{controlnet.NAME}-our-start": ["--method", "none", controlnet.OUR_START],
}
"""What they learn; LoRA's ranks are those whose numbers of parameters are nearest to HRA's."""
MUON = "-muon"
WITH_MUON = ("hra-finest", "lora-finest", f"{controlnet.NAME}-our-start")
SETTINGS = {
    **{name: [*flags, "--optimizer", "adamw"] for name, flags in LEARNED.items()},
    **{f"{name}{MUON}": [*LEARNED[name], "--optimizer", "muon"] for name in WITH_MUON},
}
"""All that is compared: each with AdamW, and some with Muon as well."""
LIKE_HRA = {
    "lora": (ATTENTION_AND_GEGLU, 8),
    "lora-convs": (WITH_CONVS, 8),
    "lora-finest": (FINEST, 24),
}
"""The layers on which a LoRA has as many parameters as HRA, and HRA's rank there."""
HINT = "hint"
OURS = tuple(name for name in SETTINGS if name.startswith("hra"))
CONTROLNETS = tuple(name for name in SETTINGS if name.startswith(controlnet.NAME))
ALONE = (HINT, *CONTROLNETS)
"""Those in which the rate is that of everything learned."""
TRAIN_SEED, TEST_SEED, SWEEP_SEED = 0, 1, 2
AIM = {"canny": "f1", "scribble": "f1", "segmentation": "miou"}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    for name, flags in SETTINGS.items():
        if like := LIKE_HRA.get(name.removesuffix(MUON)):
            flags += ["--rank", str(lora_rank(*like))]
    judge = Judge(load_base(BASE), options.condition, model=options.segmenter)
    test = open_test(_pairs(options, "held-out", options.maps, TEST_SEED))
    _pairs(options, "train", options.pairs, TRAIN_SEED)
    rates = sweep(options, judge) if options.learning_rates else _chosen(options.rates)
    rows = _rows(options, judge, test, rates)
    figures = {
        "base": BASE,
        "condition": options.condition,
        "machine": f"{platform.machine()}, one thread each, {options.jobs} trainings at a time",
        "scorer": judge.scorer.name,
        "steps": options.steps,
        "batch": options.batch,
        "pairs": options.pairs,
        "maps": options.maps,
        "choice_of_rates": rates,
        "ahead": f"difference in {EACH[options.condition]}; same control images, prompts, seeds",
        "rows": rows,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        replace_file(options.json, f"{json.dumps(figures, indent=1)}\n".encode())
    if options.image:
        sheet(judge, _folder(options, options.methods[0]), test).save(options.image)


@dataclass(frozen=True)
class Job:
    """A training: rates are the recipe's where they are None."""

    contestant: str
    steps: int
    rate: float | None = None
    hint_rate: float | None = None

    @property
    def flags(self) -> list[str]:
        hint_rate = self.rate if self.contestant in ALONE else self.hint_rate
        given = {"learning_rate": self.rate, "hint_learning_rate": hint_rate}
        rates = [word for k, v in given.items() if v for word in (f"--{k}", f"{v:g}")]
        return [*SETTINGS[self.contestant], "--max_train_steps", str(self.steps), *rates]


def sweep(options: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """By method: what every rate reached after `sweep_steps`, and the best one."""
    test = open_test(_pairs(options, "held-out", options.sweep_maps, SWEEP_SEED))
    first = _try_rates(options, judge, test, [HINT], None)
    others = [name for name in options.methods if name != HINT]
    return first | _try_rates(options, judge, test, others, first[HINT]["rate"])


def _try_rates(
    options: argparse.Namespace,
    judge: Judge,
    test: Test,
    names: Sequence[str],
    hint_rate: float | None,
) -> dict[str, Any]:
    tries = [(name, rate) for name in names for rate in options.learning_rates]
    jobs = {
        f"sweep/{name}-{rate:g}": Job(name, options.sweep_steps, rate, hint_rate)
        for name, rate in tries
    }
    choices: dict[str, Any] = {name: {"reached": {}} for name in names}
    for place, scores in _each(options, jobs, judge, test, only_following=True):
        reached = scores["following"][AIM[options.condition]]["value"]
        choices[jobs[place].contestant]["reached"][f"{jobs[place].rate:g}"] = reached
    for tried in choices.values():
        tried["rate"] = float(max(tried["reached"], key=tried["reached"].get))
        aim, count = AIM[options.condition], options.sweep_maps
        tried["rule"] = f"highest {aim} on {count} other control images"
    return choices


def _chosen(result: Path | None) -> dict[str, Any]:
    """The rates of an earlier result of this benchmark, and how they were chosen."""
    if result is None:
        return {}
    chosen = json.loads(result.read_text("utf-8"))["choice_of_rates"]
    return {name: {"rule": "chosen before", **scores} for name, scores in chosen.items()}


def _rows(
    options: argparse.Namespace, judge: Judge, test: Test, rates: dict[str, Any]
) -> list[dict[str, Any]]:
    chosen = {name: tried["rate"] for name, tried in rates.items()}
    jobs = {
        name: Job(
            name, options.steps, chosen.get(name), None if name in ALONE else chosen.get(HINT)
        )
        for name in options.methods
    }
    rows = dict(_each(options, jobs, judge, test))
    for name, job in jobs.items() if options.pace_steps else ():
        rows[name]["seconds_per_step"] = pace(options, job)
    each = {name: row.pop("each") for name, row in rows.items()}
    for ours in [name for name in options.methods if name in OURS]:
        for name in options.methods:
            if name != ours:
                rows[name][f"{ours}_ahead"] = ahead(each[ours], each[name])
    base = {**judge.following(None, test), **judge.without_control(None, test)}
    del base["each"]
    return [{"contestant": "base", **base}, *(rows[name] for name in options.methods)]


def _each(
    options: argparse.Namespace,
    jobs: dict[str, Job],
    judge: Judge,
    test: Test,
    *,
    only_following: bool = False,
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Train `jobs` by place, score each as it ends, and remember its score."""
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(train, options, place, job): place for place, job in jobs.items()}
        for ended in as_completed(running):
            ended.result()
            place = running[ended]
            row_file = options.out / f"{place}.{jobs[place].steps}-{len(test.control_images)}.json"
            if not row_file.is_file():
                row = _score(judge, _folder(options, place), test, only_following)
                replace_file(
                    row_file, json.dumps({**asdict(jobs[place]), **row}, indent=1).encode()
                )
                print(json.dumps(row), flush=True)
            yield place, json.loads(row_file.read_text())


def _score(judge: Judge, folder: Path, test: Test, only_following: bool) -> dict[str, Any]:
    row = {**_parameters(folder), **judge.following(folder, test)}
    return row if only_following else {**row, **judge.without_control(folder, test)}


def train(options: argparse.Namespace, place: str, job: Job) -> None:
    """Train a method as a user would, from the command line; goes on where it was cut off."""
    folder, log = _folder(options, place), options.out / f"{place}.log"
    history = read_history(folder)
    if history.end and history.end["event"] == "Finished" and history.step == job.steps:
        return
    begun = any(folder.glob("checkpoint-*"))
    program = (
        ["benchmarks.controlnet"] if job.contestant in CONTROLNETS else ["training", "control"]
    )
    command = [
        *(sys.executable, "-m", *program, *job.flags),
        *("--config", f"configs/pocket/{options.condition}-hra.yaml"),
        *("--train_data_dir", str(_pairs(options, "train", options.pairs, TRAIN_SEED))),
        *("--train_batch_size", str(options.batch), "--validation_samples", "0"),
        *("--seed", str(options.seed), "--output_dir", str(folder)),
        *(["--resume_from_checkpoint", "latest"] if begun else ["--overwrite_output_dir"]),
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as written:
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=written,
            stderr=written,
        )


def pace(options: argparse.Namespace, job: Job) -> float:
    """The median of the seconds that a step takes in a short training beside no other."""
    place = f"pace/{job.contestant}"
    train(options, place, replace(job, steps=options.pace_steps))
    events = read_events(_folder(options, place) / "events.jsonl")
    times = [event["time"] for event in events if event["event"] == "Step"]
    return round(statistics.median(b - a for a, b in pairwise(times)), 4)


def _parameters(folder: Path) -> dict[str, int]:
    """How many numbers a training learned."""
    events = read_events(folder / "events.jsonl")
    started = next(event for event in events if event["event"] == "Started")
    return {"parameters": started["parameters"]}


def lora_rank(targets: Sequence[str], rank_of_hra: int) -> int:
    """The rank at which LoRA trains about as many numbers as HRA, on the same layers."""
    unet = load_base(BASE).unet

    def count(method: Method) -> int:
        adapter = orthodiff.attach(unet, method, targets=targets)
        adapter.detach()
        return adapter.num_parameters

    each = count(make_method("lora", {"rank": 1}))
    return max(1, round(count(make_method("hra", {"rank": rank_of_hra})) / each))


def _pairs(options: argparse.Namespace, split: str, count: int, seed: int) -> Path:
    """A data set of the world, painted where it is missing."""
    folder = options.out / f"pairs-{split}-{count}-{seed}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_pairs(options.condition, count, folder, seed=seed, split=split)
    return folder


def _folder(options: argparse.Namespace, place: str) -> Path:
    return options.out / place


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--condition", default="canny", choices=sorted(AIM))
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=4000, help="pairs to train on")
    parser.add_argument("--maps", type=int, default=200, help="held-out control images to score on")
    parser.add_argument("--learning_rates", type=float, nargs="+", help="rates that each one tries")
    parser.add_argument("--rates", type=Path, help="earlier result whose rates are taken")
    parser.add_argument("--sweep_steps", type=int, default=400)
    parser.add_argument("--sweep_maps", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--pace_steps", type=int, default=40, help="steps that are timed; 0: none")
    parser.add_argument("--segmenter", default="assets/pocket-segmenter")
    parser.add_argument("--out", type=Path, help="folder of the runs [runs/controls/CONDITION]")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--image", "--picture", type=Path, help="control image, images and overlays of the first"
    )
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs/controls") / options.condition
    return options


if __name__ == "__main__":
    main()

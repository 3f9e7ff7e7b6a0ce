"""`python -m tests.mutation MODULE ... [--sample N --seed S]`: make mutants, run tests, report."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .forks import import_quietly, in_fork
from .lines import LinesOfTests
from .mutants import mutants_of, sample
from .report import table
from .tree import PLACE, TREE, copy_tree
from .trial import Trial
from .warm import QUIET, Warm, run_cold

LIBRARIES = [
    "numpy", "PIL.Image", "cv2", "torch", "accelerate", "peft", "pydantic", "fastapi.testclient",
    "diffusers.models.autoencoders.autoencoder_kl", "diffusers.models.unets.unet_2d_condition",
    "diffusers.optimization", "diffusers.schedulers.scheduling_ddpm", "diffusers.training_utils",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
    "hypothesis", "coverage", "sqlalchemy", "gradio",
]  # fmt: skip
"""What is imported before the first fork; our own code is not."""


def main() -> None:
    """Go on in a copy of the tree; there try the mutants of every module."""
    options = read_options()
    if Path.cwd() != TREE:
        copy_tree()
        sys.exit(go_on_in_copy())
    import_quietly(LIBRARIES)
    lines = LinesOfTests(PLACE / "lines")
    ended = in_fork(lambda _: collect(options, lines), limit=1e6, is_quiet=False)
    if ended.code:
        sys.exit(ended.code)
    lines.read(Path("tests").resolve().glob("test_*.py"))
    for module in options.modules:
        trial, count = new_trial(options, lines, module)
        trial.at_import(
            lambda path, before, after, tests: run_cold(lines, tests), list(lines.seconds)
        )
        report = table(trial.verdicts.all, count)
        print(f"\n== {module}\n{report}", flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", help="folders, files, or several joined by commas")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="tests to choose from")
    parser.add_argument("--markers", default="not slow and not gpu", help="pytest's -m")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, by chance")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample")
    parser.add_argument("--budget", type=float, default=30, help="seconds of tests for one mutant")
    parser.add_argument("--again", action="store_true", help="forget results of an earlier run")
    return parser.parse_args()


def go_on_in_copy() -> int:
    """Run this program again there; what is started by tests imports the copy too."""
    elsewhere = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = [str(TREE), *(p for p in elsewhere if Path(p).resolve() != TREE.parents[2])]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.mutation", *sys.argv[1:]]
    return subprocess.run(command, cwd=TREE, env=environment).returncode


def new_trial(options: argparse.Namespace, lines: LinesOfTests, module: str) -> tuple[Trial, int]:
    """The sample of a module's mutants, and how many there are."""
    places = [Path(name) for name in module.split(",")]
    paths = [p for place in places for p in (sorted(place.rglob("*.py")) or [place])]
    every = mutants_of(paths)
    name = module.replace("/", "-").replace(",", "+").replace(".py", "")
    file = PLACE / f"{name}-{options.sample or 'all'}-{options.seed}.jsonl"
    return Trial(lines, sample(every, options.sample, options.seed), file, options.budget), len(
        every
    )


def collect(options: argparse.Namespace, lines: LinesOfTests) -> int:
    """In a fork: import and collect everything, and try the mutants of functions."""

    def work(warm: Warm) -> None:
        for module in options.modules:
            trial, count = new_trial(options, lines, module)
            print(f"{module}: {len(trial.mutants)} of {count} mutants", flush=True)
            trial.inside_functions(warm.run, warm.items)

    sys.dont_write_bytecode = False  # of what is not mutated yet, so that forks import it sooner
    options_of_pytest = [*QUIET, "-m", options.markers, f"--basetemp={PLACE / 'tmp'}"]
    return int(pytest.main([*options_of_pytest, *options.tests], plugins=[Warm(lines, work)]))


if __name__ == "__main__":
    main()

"""Helpers for tests that train: arguments for a tiny run, and ways to start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from orthodiff.training.cli.main import main

ROOT = Path(__file__).parent.parent


def make_images(folder: Path, count: int = 3) -> Path:
    """Write `count` random images of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 255, (40, 44 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def arguments(base: Path, images: Path, output: Path, **flags: object) -> list[str]:
    """The command line of a short run; `flags` are added or replace the usual ones."""
    default = {
        "pretrained_model_name_or_path": base,
        "instance_data_dir": images,
        "instance_prompt": "a photo of sks dog",
        "output_dir": output,
        "cache_dir": output.parent / "cache",
        "max_train_steps": 4,
        "train_batch_size": 2,
        "report_to": "none",
    }
    words = ["dreambooth"]
    for name, value in {**default, **flags}.items():
        words += [f"--{name}", str(value)]
    return words


def train(base: Path, images: Path, output: Path, **flags: object) -> int:
    """Run in this process; the exit code."""
    return main(arguments(base, images, output, **flags))


def start(words: list[str], *, module: str = "training") -> subprocess.Popen[str]:
    """Start `python -m module words` as its own process."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(folder: Path) -> bytes:
    """The adapter's weights, without the header that tells the time."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))

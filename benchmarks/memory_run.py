"""The memory of whole trainings at real size, start included, counted on any machine.

    python -m benchmarks.memory_run --json benchmarks/results/memory_run.json

The real command trains Stable Diffusion 1.5 or XL without weights (`benchmarks.hollow`) on a
stand-in for a GPU whose tensors have shapes but no numbers (`training/tally`): it encodes, trains
two steps and saves. Weights, activations, gradients and optimizer states are exact; what CUDA and
its kernels take for themselves is not counted. `--generate` counts the making of one image,
`--presets` what `--plan` says of the recipes in `configs/`, whose headers have it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from benchmarks import hollow
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.training.cli.main import main as train
from orthodiff.training.options.config import parse_config
from orthodiff.training.run.prepare import prepare
from orthodiff.training.tally.estimate import RunEstimate, estimate
from orthodiff.training.tally.stand_in import DEVICE, StandIn
from orthodiff.training.tasks import TASKS

GIB = 2**30
LEAN = ("--mixed_precision", "bf16", "--gradient_checkpointing", "true")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SD 1.5, 512": ("sd15", ("--mixed_precision", "bf16")),
    "SD 1.5, 512, checkpointing": ("sd15", LEAN),
    "SDXL, 1024, checkpointing": ("sdxl", LEAN),
    "SDXL, 1024, every second block": (
        "sdxl",
        (*LEAN, "--gradient_checkpointing_interval", "2"),
    ),
    "SDXL, 1024, batch 4, checkpointing": ("sdxl", (*LEAN, "--train_batch_size", "4")),
    "SDXL, 1024, text encoders too": ("sdxl", (*LEAN, "--train_text_encoder", "true")),
}
"""By what is said of it: the base and the flags; HRA of rank 8, batch 1 unless said."""
WITHOUT_WEIGHT = ("pretrained_model_name_or_path", "max_train_steps",
                  "checkpointing_steps", "checkpoints_total_limit", "seed")  # fmt: skip
"""Settings that change neither memory nor a step's work."""
PRESETS = tuple(
    f"configs/{base}/{name}.yaml"
    for base in ("sd15", "sdxl")
    for name in ("quick", "balanced", "faithful")
)


def main() -> None:
    """Count, print and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures, which are added to it")
    parser.add_argument("--run", nargs="*", default=tuple(RUNS), help="some of them by name")
    parser.add_argument("--generate", action="store_true", help="also count one image, by offload")
    parser.add_argument("--presets", action="store_true", help="count the recipes in `configs/`")
    options = parser.parse_args()
    hollow.register()
    for name in options.run:
        kind, flags = RUNS[name]
        report(name, count_run(kind, flags), options.json)
    for offload in ("none", "model", "sequential") if options.generate else ():
        figures = count_image("sdxl", offload)
        report(f"one image of SDXL, --offload {offload}", figures, options.json)

    for path in PRESETS if options.presets else ():
        report(path, count_preset(path), options.json)


def count_preset(path: str) -> dict[str, float]:
    """What `--plan` counts for a recipe, on its base without weights."""
    settings = yaml.safe_load(Path(path).read_text("utf-8"))
    alike = {n: v for n, v in settings.items() if n not in WITHOUT_WEIGHT}
    counted = _count_settings(Path(path).parent.name, yaml.safe_dump(alike))
    return {"peak": round(counted.peak / GIB, 2), **asdict(counted)}


@cache
def _count_settings(kind: str, settings: str) -> RunEstimate:
    with tempfile.TemporaryDirectory() as place:
        folder, task = Path(place), TASKS["dreambooth"]
        (folder / "recipe.yaml").write_text(settings, "utf-8")
        words = [f"--config={folder / 'recipe.yaml'}", *_places(kind, folder), "--replay=false"]
        return estimate(prepare(task, parse_config(words, task.config, prog="preset")))


def count_run(kind: str, flags: Sequence[str]) -> dict[str, float]:
    """GiB at the highest point of a run of two steps, and of each part of it."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(DEVICE)
    with tempfile.TemporaryDirectory() as place, StandIn() as device:
        folder = Path(place)
        words = [*_arguments(kind, folder), *flags]
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = train(words)
        if code:
            raise RuntimeError(said.getvalue())
        return {"peak": round(device.ledger.peak / GIB, 2)}


def count_image(kind: str, offload: Any) -> dict[str, float]:
    """GiB at the highest point while one image of two steps is made."""
    with tempfile.TemporaryDirectory() as place, StandIn() as device:
        folder = hollow.write_folder(kind, Path(place))
        base = load_base(str(folder), dtype=torch.bfloat16, device=str(DEVICE), offload=offload)
        generate(base, GenerateRequest.repeat("a dog", num_inference_steps=2))
        return {"peak": round(device.ledger.peak / GIB, 2)}


def report(name: str, figures: dict[str, float], file: Path | None) -> None:
    """Print the figures, and add them to those of the file."""
    print(f"{name:<40} {figures['peak']:6.2f} GiB", flush=True)
    if file is None:
        return
    known = json.loads(file.read_text("utf-8")) if file.is_file() else {"runs": {}}
    runs = {**known["runs"], name: figures}
    content = {"torch": torch.__version__, "unit": "GiB", "runs": runs}
    file.write_text(f"{json.dumps(content, indent=2)}\n", "utf-8")


def _arguments(kind: str, folder: Path) -> list[str]:
    """The command line of a run on one photo."""
    flags = {
        "max_train_steps": 2,
        "train_batch_size": 1,
        "validation_samples": 1,
        "learning_rate": 1e-4,
        "replay": False,
        "rank": 8,
    }
    return ["dreambooth", *_places(kind, folder), *_flags(flags)]


def _places(kind: str, folder: Path) -> list[str]:
    """The flags that say where all is; the base and a photo are made."""
    base, photos = hollow.write_folder(kind, folder / "base"), folder / "photos"
    photos.mkdir()
    Image.new("RGB", (1024, 1024), "red").save(photos / "0.png")
    flags = {
        "pretrained_model_name_or_path": base,
        "instance_data_dir": photos,
        "instance_prompt": "a photo of sks dog",
        "output_dir": folder / "run",
        "cache_dir": folder / "cache",
        "report_to": "none",
    }
    return _flags(flags)


def _flags(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


if __name__ == "__main__":
    main()

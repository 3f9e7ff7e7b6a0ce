"""The memory of whole trainings at real size, start included, counted on any machine.

    python -m benchmarks.memory_run --json benchmarks/results/memory_run.json

The real command trains Stable Diffusion 1.5 or XL without weights (`benchmarks.hollow`) on a
stand-in for a GPU whose tensors have shapes but no numbers (`training/tally`): it encodes, trains
two steps and saves. Weights, activations, gradients and optimizer states are exact; what CUDA and
its kernels take for themselves is not counted. `--generate` counts the making of one image.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import hollow
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.training.cli.main import main as train
from orthodiff.training.tally.stand_in import DEVICE, StandIn

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


def main() -> None:
    """Count, print and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures, which are added to it")
    parser.add_argument("--run", nargs="*", default=tuple(RUNS), help="some of them by name")
    parser.add_argument("--generate", action="store_true", help="also count one image, by offload")
    options = parser.parse_args()
    hollow.register()
    for name in options.run:
        kind, flags = RUNS[name]
        report(name, count_run(kind, flags), options.json)
    for offload in ("none", "model", "sequential") if options.generate else ():
        figures = count_image("sdxl", offload)
        report(f"one image of SDXL, --offload {offload}", figures, options.json)


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
    """The flags of a run on one photo."""
    base, photos = hollow.write_folder(kind, folder / "base"), folder / "photos"
    photos.mkdir()
    Image.new("RGB", (1024, 1024), "red").save(photos / "0.png")
    flags = {
        "pretrained_model_name_or_path": base,
        "instance_data_dir": photos,
        "instance_prompt": "a photo of sks dog",
        "output_dir": folder / "run",
        "cache_dir": folder / "cache",
        "max_train_steps": 2,
        "train_batch_size": 1,
        "validation_samples": 1,
        "learning_rate": 1e-4,
        "report_to": "none",
        "replay": False,
        "rank": 8,
    }
    return ["dreambooth", *(word for n, v in flags.items() for word in (f"--{n}", str(v)))]


if __name__ == "__main__":
    main()

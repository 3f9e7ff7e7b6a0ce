"""A batch next to a plain diffusers loop on the same rows; its memory over 2,000 rows; its start.

    python -m benchmarks.batch_speed --json benchmarks/results/batch_speed.json

Speed: prompts x four seeds x three adapters of the pocket model, as `generate --prompts` makes them
(everything counts: loading, hashing, measuring, writing with recipes and an index), and as a plain
loop has it: for each adapter a pipeline from its folder, an image at a time with default settings,
saved as PNG. The loop loads the adapter as a LoRA, to which HRA exports without a loss; `--peft`
adds a loop through PEFT's own HRA layers, which takes many times longer. All run in this process on
the same threads and take turns.
Memory: a process of its own makes 2,000 rows with three adapters, small and in few steps.
Start: from the call of the command to the first image, as a process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import orthodiff
from orthodiff.batch.run import plan_batch, run_batch
from orthodiff.cli.generate import GenerateOptions
from orthodiff.logs import quiet_libraries
from orthodiff.settings import validate

ROOT = Path(__file__).parent.parent
BASE = ROOT / "assets" / "pocket"
PROMPTS = ("a photo of a dog in the snow", "a photo of a cat on the beach")
SEEDS = (0, 1, 2, 3)
GOAL_RATIO, GOAL_START = 1.5, 8.0


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--peft", action="store_true", help="also through PEFT's HRA layers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(_memory(options.memory_of, options.rows)))
        return
    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        adapters = make_adapters(folder)
        result = {
            "machine": {"torch": torch.__version__, "threads": torch.get_num_threads()},
            "goals": {"ratio": GOAL_RATIO, "first_image_seconds": GOAL_START},
            "speed": speed(adapters, folder, rounds=options.rounds, peft=options.peft),
            "start": start(folder),
            "memory": memory(folder, options.rows),
        }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(f"{text}\n", "utf-8")


def make_adapters(folder: Path) -> list[Path]:
    """Three adapters with noise for parameters, each also exported as a LoRA beside it."""
    base, adapters = orthodiff.load_base(str(BASE)), []
    for seed in range(3):
        adapter = orthodiff.attach(base.denoiser, orthodiff.HRA(rank=8))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        place = folder / f"adapter-{seed}"
        adapter.save(place)
        adapter.detach()
        orthodiff.export(place, folder / f"lora-{seed}.safetensors", base=BASE)
        adapters.append(place)
    return adapters


def speed(adapters: list[Path], folder: Path, *, rounds: int, peft: bool) -> dict[str, Any]:
    """Seconds of each way by round, and the medians of the ratios within rounds."""
    count = len(PROMPTS) * len(SEEDS) * len(adapters)
    ways: dict[str, Callable[[int], None]] = {
        "orthodiff": lambda n: ours(adapters, folder / f"ours-{n}"),
        "diffusers, LoRA": lambda n: loop(adapters, folder / f"lora-out-{n}", with_lora),
    }
    if peft:
        ways["diffusers, PEFT's HRA"] = lambda n: loop(adapters, folder / f"hra-{n}", with_peft)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        names = list(ways) if number % 2 else list(reversed(ways))
        for name in names:
            begun = time.perf_counter()
            ways[name](number)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
    own = seconds["orthodiff"]
    return {
        "images": count,
        "seconds": seconds,
        "times_faster": {
            name: statistics.median(b / a for a, b in zip(own, theirs, strict=True))
            for name, theirs in seconds.items()
        },
        "largest_difference": difference(folder / "ours-1", folder / "lora-out-1"),
    }


def ours(adapters: list[Path], out: Path, *more: tuple[str, Any]) -> None:
    """What `generate --prompts` does, without starting Python."""
    prompts = out.with_suffix(".txt")
    prompts.write_text("\n".join(PROMPTS))
    given = {
        "pretrained_model_name_or_path": str(BASE), "prompts": prompts, "seeds": SEEDS,
        "adapters": [str(adapter) for adapter in adapters], "output_dir": out,
        "name": "{adapter}-{prompt}-{seed}", **dict(more),
    }  # fmt: skip
    options = validate(GenerateOptions, given)
    with options.open_engine() as engine:
        plan = plan_batch(options.rows()[0], engine, options.settings())
        summary = run_batch(plan, engine, options.settings(), on_note=lambda text: None)
    assert summary.failed == summary.missing == 0


def loop(adapters: list[Path], out: Path, put_on: Callable[[Any, Path], None]) -> None:
    """A plain loop: a pipeline per adapter, an image at a time, default settings."""
    from diffusers import StableDiffusionPipeline

    out.mkdir()
    for adapter in adapters:
        pipeline = StableDiffusionPipeline.from_pretrained(
            BASE, safety_checker=None, requires_safety_checker=False
        )
        pipeline.set_progress_bar_config(disable=True)
        put_on(pipeline, adapter)
        for prompt in PROMPTS:
            for seed in SEEDS:
                image = pipeline(
                    prompt,
                    guidance_scale=4.0,  # what the base's generation_config.json advises
                    num_inference_steps=25,
                    generator=torch.Generator().manual_seed(seed),
                ).images[0]
                image.save(out / f"{adapter.name}-{'-'.join(prompt.split())}-{seed}.png")


def with_lora(pipeline: Any, adapter: Path) -> None:
    """The adapter as diffusers' own LoRA."""
    name = adapter.name.replace("adapter", "lora")
    pipeline.load_lora_weights(adapter.with_name(f"{name}.safetensors"))


def with_peft(pipeline: Any, adapter: Path) -> None:
    """The adapter in PEFT's layers of its own method."""
    from peft import PeftModel

    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, str(adapter)).base_model.model


def difference(one: Path, other: Path) -> int:
    """How far images of the same name are apart, of 255."""
    import numpy as np
    from PIL import Image

    def levels(path: Path) -> Any:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.int16)

    names = [path.name for path in other.glob("*.png")]
    return max(int(abs(levels(one / n) - levels(other / n)).max()) for n in names)


def start(folder: Path, tries: int = 3) -> dict[str, Any]:
    """Seconds from the call of the command to the first image."""
    seconds = []
    for number in range(tries):
        out = folder / f"start-{number}"
        prompts = folder / "start.txt"
        prompts.write_text("\n".join(PROMPTS * 8))
        words = ["generate", "--pretrained_model_name_or_path", str(BASE), "--prompts"]
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "orthodiff", *words, str(prompts), "--output_dir", str(out),
             "--batch_size", "1", "--num_images", "2"],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not list(out.glob("*.png")) and process.poll() is None:
            time.sleep(0.01)
        seconds.append(time.perf_counter() - begun)
        process.kill()
        process.wait()
    return {"first_image_seconds": seconds, "least": min(seconds)}


def memory(folder: Path, rows: int) -> dict[str, Any]:
    """The most memory after 100 images and after all, in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.batch_speed", "--memory-of", str(folder),
         "--rows", str(rows)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(process.stdout.splitlines()[-1])


def _memory(folder: Path, rows: int) -> dict[str, Any]:
    """Make `rows` images and watch this process."""
    quiet_libraries()
    prompts, out = folder / "memory.jsonl", folder / "memory"
    adapters = sorted(folder.glob("adapter-?"))
    lines = [
        {"prompt": f"a photo of a dog number {n}", "seed": n, "adapter": str(adapters[n % 3])}
        for n in range(rows)
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    given = {
        "pretrained_model_name_or_path": str(BASE), "prompts": prompts, "output_dir": out,
        "num_inference_steps": 1, "width": 32, "height": 32,
    }  # fmt: skip
    options = validate(GenerateOptions, given)
    marks: dict[int, float] = {}

    def watch(record: Any, summary: Any) -> None:
        if summary.made == 100 or summary.made % 500 == 0:
            marks[summary.made] = _peak()

    begun = time.perf_counter()
    with options.open_engine() as engine:
        plan = plan_batch(options.rows()[0], engine, options.settings())
        summary = run_batch(
            plan, engine, options.settings(), on_note=lambda text: None, on_result=watch
        )
    assert summary.made == rows
    return {
        "rows": rows,
        "adapters": 3,
        "seconds": time.perf_counter() - begun,
        "peak_mb_after": marks,
        "peak_mb_at_the_end": _peak(),
        "grown_mb_since_the_first_100": marks[max(marks)] - marks[100],
    }


def _peak() -> float:
    """The most memory this process has taken, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()

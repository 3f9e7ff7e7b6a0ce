"""Personalisation on held-out subjects: does the subject arrive, and do the contexts stay?

    python -m benchmarks.subjects --methods hra --json benchmarks/results/subjects.json

For every method and subject: a training process, then images of the subject in every context
(adapted: with the rare token; base: with the class word alone; same seeds), scored by the base's
own scorer and by EfficientNet-Lite0, which no training here made, where it is installed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image

import orthodiff
from orthodiff.evaluation.metrics import (
    Scorer,
    default_scorer,
    load_scorer,
    prompt_similarity,
    real_against_real,
    subject_similarity,
)
from orthodiff.evaluation.metrics.efficientnet import offline_judges
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate
from pocket.painted.grounds import GROUNDS

SETTINGS: dict[str, list[str]] = {
    "hra": ["--rank", "8", "--learning_rate", "3e-3"],
    "oft": ["--block_size", "8", "--learning_rate", "3e-3"],
    "boft": ["--block_size", "8", "--factors", "2", "--learning_rate", "3e-3"],
    "lora": ["--rank", "8", "--learning_rate", "1e-3"],
}


def train(base: str, subject: Path, method: str, steps: int, seed: int, out: Path) -> float:
    """Train an adapter as a user would, from the command line; returns the seconds it took."""
    card = json.loads((subject / "subject.json").read_text())
    command = [
        sys.executable, "-m", "training", "dreambooth", "--pretrained_model_name_or_path", base,
        "--instance_data_dir", str(subject), "--instance_prompt", card["instance_prompt"],
        "--method", method, *SETTINGS[method], "--max_train_steps", str(steps),
        "--train_batch_size", "5", "--seed", str(seed), "--output_dir", str(out),
        "--overwrite_output_dir",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def in_every_context(base: Base, phrase: str, seed: int) -> list[Image.Image]:
    """One image of the phrase in each context, all with their own seed."""
    prompts = tuple(f"a photo of {phrase} {context}" for context in GROUNDS)
    seeds = tuple(range(seed * 1000, seed * 1000 + len(prompts)))
    return generate(base, GenerateRequest(prompts=prompts, seeds=seeds, batch_size=12))


def context_accuracy(scorer: Scorer, images: Sequence[Image.Image]) -> float:
    """Share of images whose nearest context prompt is the one that was asked for."""
    named = scorer.embed_texts([f"a photo of something {context}" for context in GROUNDS])
    guesses = (scorer.embed_images(images) @ named.T).argmax(-1)
    return (guesses == torch.arange(len(images), device=guesses.device)).float().mean().item()


def scores(
    scorer: Scorer,
    images: list[Image.Image],
    photos: list[Image.Image],
    class_word: str,
) -> dict[str, float]:
    prompts = [f"a photo of a {class_word} {context}" for context in GROUNDS]
    return {
        "subject_similarity": round(subject_similarity(scorer, images, photos), 4),
        "prompt_similarity": round(prompt_similarity(scorer, images, prompts), 4),
        "context_accuracy": round(context_accuracy(scorer, images), 4),
        **{
            f"subject_similarity_{other.name}": round(subject_similarity(other, images, photos), 4)
            for other in offline_judges()
        },
    }


def strip(photos: list[Image.Image], before: list[Image.Image], after: list[Image.Image]) -> Image:
    """Photos, base and adapted as three rows of eight images."""
    rows = [(photos * 8)[:8], before[:8], after[:8]]
    side = after[0].width
    image = np.concatenate(
        [np.concatenate([np.asarray(p.convert("RGB").resize((side, side))) for p in row], 1)
         for row in rows], 0,
    )  # fmt: skip
    enlarged = Image.fromarray(image)
    return enlarged.resize((enlarged.width * 2, enlarged.height * 2), Image.Resampling.LANCZOS)


def benchmark(options: argparse.Namespace) -> dict:
    """All rows and their means; images go to `options.out`."""
    base = load_base(options.base)
    scorer_folder = default_scorer(base.folder)
    if scorer_folder is None:
        raise SystemExit("error: the base brings no scorer/ folder")
    scorer = load_scorer(scorer_folder)
    rows = []
    for method in options.methods:
        for subject in options.subjects:
            for seed in options.seeds:
                rows.append(_row(base, scorer, subject, method, seed, options))
                print(json.dumps(rows[-1]), flush=True)
    return {
        "base": options.base,
        "scorer": scorer.name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "steps": options.steps,
        "means": {method: _means(rows, method) for method in options.methods},
        "rows": rows,
    }


def _row(
    base: Base, scorer: Scorer, subject: Path, method: str, seed: int, options: argparse.Namespace
) -> dict:
    folder = options.out / f"{subject.name}-{method}-{seed}"
    seconds = train(options.base, subject, method, options.steps, seed, folder)
    card = json.loads((subject / "subject.json").read_text())
    photos = [Image.open(path).convert("RGB") for path in sorted(subject.glob("*.png"))]
    before = in_every_context(base, f"a {card['class']}", seed)
    adapter = orthodiff.load(base.unet, folder)
    after = in_every_context(base, f"sks {card['class']}", seed)
    parameters = adapter.num_parameters
    adapter.detach()
    strip(photos, before, after).save(folder / "strip.png")
    return {
        "method": method, "subject": subject.name, "seed": seed, "parameters": parameters,
        "seconds": round(seconds, 1),
        "base": scores(scorer, before, photos, card["class"]),
        "adapted": scores(scorer, after, photos, card["class"]),
        "real_against_real": round(real_against_real(scorer, photos), 4),
        **{
            f"real_against_real_{other.name}": round(real_against_real(other, photos), 4)
            for other in offline_judges()
        },
    }  # fmt: skip


def _means(rows: list[dict], method: str) -> dict:
    mine = [row for row in rows if row["method"] == method]
    names = tuple(mine[0]["adapted"])
    means = {
        model: {name: round(mean(row[model][name] for row in mine), 4) for name in names}
        for model in ("base", "adapted")
    }
    return {
        "parameters": mine[0]["parameters"],
        "seconds": round(mean(row["seconds"] for row in mine), 1),
        **means,
        "real_against_real": round(mean(row["real_against_real"] for row in mine), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="assets/pocket")
    parser.add_argument(
        "--subjects", type=Path, nargs="+",
        default=sorted(path.parent for path in Path("assets/subjects").glob("*/subject.json")),
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=["hra"], choices=sorted(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/subjects"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = benchmark(options)
    print(json.dumps(figures["means"], indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

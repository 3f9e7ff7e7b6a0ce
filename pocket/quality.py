"""Measure the pocket model: reconstruction, the scorer on real paintings, generated images."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from pocket.painted.album import TEST_SEED
from pocket.painted.glyphs import CLASSES
from pocket.painted.grounds import GROUNDS
from pocket.painted.world import article, paint
from pocket.trainings.autoencoder import psnr
from pocket.trainings.text import PromptTargets, accuracy


def every_class(count: int) -> list[tuple[str, str]]:
    """`count` pairs of class and context that go through all classes and all contexts evenly."""
    names, places = list(CLASSES), list(GROUNDS)
    return [(names[k % len(names)], places[(k + k // len(names)) % len(places)])
            for k in range(count)]  # fmt: skip


def generate(
    pipeline: StableDiffusionPipeline, pairs: list[tuple[str, str]], settings: dict
) -> np.ndarray:
    """One image of each pair, seed = its place in the list; `(n, h, w, 3)` uint8."""
    images: list[np.ndarray] = []
    for start in range(0, len(pairs), 12):
        part = pairs[start : start + 12]
        prompts = [f"a photo of {article(name)} {name} {place}" for name, place in part]
        seeds = [torch.Generator().manual_seed(start + k) for k in range(len(part))]
        batch = pipeline(
            prompts,
            generator=seeds,
            guidance_scale=settings["guidance_scale"],
            num_inference_steps=settings["num_inference_steps"],
        ).images
        images += [np.asarray(image) for image in batch]
    return np.stack(images)


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    rows = [np.concatenate(list(row), 1) for row in
            np.split(images[: len(images) // columns * columns],
                     len(images) // columns)]  # fmt: skip
    image = Image.fromarray(np.concatenate(rows, 0))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS)


def measure(model: Path, *, count: int, sheet_path: Path | None = None) -> dict:
    """All figures of the model card; `count` generated images."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    scorer = CLIPModel.from_pretrained(model / "scorer", dtype=torch.float32).eval()
    targets = PromptTargets(CLIPTokenizer.from_pretrained(model / "scorer"))
    settings = json.loads((model / "generation_config.json").read_text())

    fresh = [paint(TEST_SEED, k) for k in range(2000)]
    paintings = np.stack([p.image for p in fresh])
    cards = [
        {"class": p.appearance.name, "context": p.context, "colour": p.appearance.colour,
         "pattern": p.appearance.pattern, "accessory": p.appearance.accessory}
        for p in fresh
    ]  # fmt: skip
    pairs = every_class(count)
    start = time.perf_counter()
    images = generate(pipeline, pairs, settings)
    seconds = (time.perf_counter() - start) / len(pairs)
    if sheet_path:
        sheet(images[:136], 17).save(sheet_path)
    asked = [{"class": name, "context": place} for name, place in pairs]
    return {
        "reconstruction_psnr_db": round(psnr(pipeline.vae, paintings[:512]), 2),
        "scorer_on_paintings": accuracy(scorer, targets, paintings, cards),
        "scorer_on_generated": accuracy(scorer, targets, images, asked),
        "generated_pictures": count,
        "seconds_per_picture": round(seconds, 3),
        **settings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the pocket model.")
    parser.add_argument("--model", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--count", type=int, default=544, help="generated images")
    parser.add_argument("--sheet", type=Path, help="write a sample sheet here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures = measure(options.model, count=options.count, sheet_path=options.sheet)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

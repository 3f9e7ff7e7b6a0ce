"""Measure the model of the rendered world, by its own scorer and by one that nobody here trained.

python -m pocket.world.quality --model runs/pocket3d/model --views runs/pocket3d/views
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from orthodiff.evaluation.metrics.efficientnet import EfficientNetLite0, load_efficientnet
from pocket.quality import generate, sheet
from pocket.train import TEST_SEED, prompts
from pocket.trainings.autoencoder import psnr
from pocket.trainings.text import PromptTargets, accuracy
from pocket.world.album import compose_many
from pocket.world.imagenet import CLASSES, named_share
from pocket.world.models.catalogue import everyone
from pocket.world.places.contexts import CONTEXTS
from pocket.world.rendering.views import ViewStore
from pocket.world.scenes.materials import Appearance
from pocket.world.words import PRETRAINED
from pocket.world.world import World, of_words

FRESH = 512


def real_named_share(world: World, judge: EfficientNetLite0, *, each: int) -> float:
    """How often the judge names the class of a real scene: `each` of every class ImageNet has."""
    rng = np.random.default_rng((TEST_SEED, 1))
    words = [word for word in world.by_word if word in CLASSES]
    images, asked = [], []
    for word, k in product(words, range(each)):
        some, context = world.by_word[word], list(CONTEXTS)[rng.integers(len(CONTEXTS))]
        scene, _ = world.scene_of(some[k % len(some)], Appearance(), context, rng)
        images.append(Image.fromarray(scene.image))
        asked.append(word)
    return named_share(asked, judge.labels(images, 5))


def asked_pairs(words: tuple[str, ...], count: int) -> list[tuple[str, str]]:
    """`count` pairs of class and context that go through all of both evenly."""
    places = list(CONTEXTS)
    turns = ((k, words[k % len(words)]) for k in range(count))
    return [(word, places[(k + k // len(words)) % len(places)]) for k, word in turns]


def measure(
    model: Path, world: World, *, count: int, steps: int | None = None, sheet_path: Path | None
) -> dict[str, Any]:
    """All figures of the model; `count` images are generated."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    scorer = CLIPModel.from_pretrained(model / "scorer", dtype=torch.float32).eval()
    targets = PromptTargets(CLIPTokenizer.from_pretrained(model / "scorer"), prompts())
    settings = json.loads((model / "generation_config.json").read_text())
    settings |= {"num_inference_steps": steps} if steps else {}
    judge = load_efficientnet()
    scenes, cards = compose_many(world, TEST_SEED, range(FRESH))
    named = [{name: card[name] for name in targets.prompts} for card in cards]
    pairs = asked_pairs(tuple(world.by_word), count)
    start = time.perf_counter()
    images = generate(pipeline, pairs, settings)
    seconds = (time.perf_counter() - start) / count
    if sheet_path:
        sheet(images[:96], 12).save(sheet_path)
    asked = [{"class": word, "context": place} for word, place in pairs]
    labels = judge.labels([Image.fromarray(image) for image in images], 5)
    return {
        "reconstruction_psnr_db": round(psnr(pipeline.vae, scenes[:256]), 2),
        "scorer_on_scenes": accuracy(scorer, targets, scenes, named),
        "scorer_on_generated": accuracy(scorer, targets, images, asked),
        f"{judge.name}_names_real": round(real_named_share(world, judge, each=10), 4),
        f"{judge.name}_names_generated": round(named_share([word for word, _ in pairs], labels), 4),
        "generated_pictures": count,
        "seconds_per_picture": round(seconds, 3),
        **settings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the model of the rendered world.")
    parser.add_argument("--model", type=Path, default=Path("runs/pocket3d/model"))
    parser.add_argument("--views", type=Path, default=Path("runs/pocket3d/views"))
    parser.add_argument("--sets", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=600, help="generated images")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    parser.add_argument("--sheet", type=Path, help="write a sample sheet here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seen = (one for one in of_words(everyone(options.views), PRETRAINED) if not one.held_out)
    world = World(ViewStore(options.views), tuple(seen), tuple(options.sets))
    figures = measure(
        options.model, world, count=options.count, steps=options.steps, sheet_path=options.sheet
    )
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""The judge of segmentation maps: a small UPerNet that labels every pixel of the pocket world.

    python -m pocket.trainings.segmenter --minutes 25

It knows the classes of both splits of `pocket.painted.pairs`, as it judges images made from held
out maps; the maps it is trained on are those of no benchmark (other seeds).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    ConvNextConfig,
    SegformerImageProcessorPil,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from orthodiff.control import Segmentation
from orthodiff.evaluation.metrics import Score, segment_scores
from orthodiff.io.atomic import replace_file
from orthodiff.models import load_base
from pocket.painted.pairs import SPLITS, Pair, paint_pair
from pocket.painted.regions import LABELS
from pocket.trainings.autoencoder import to_pixels
from pocket.trainings.stage import (
    Box,
    Stage,
    bf16,
    device,
)

TRAIN_SEED, TEST_SEED = 101, 102
FIGURES = "accuracy.json"


def build() -> UperNetForSemanticSegmentation:
    """UPerNet (1807.10221) on a ConvNeXt whose first features are half as wide as the image."""
    backbone = ConvNextConfig(
        hidden_sizes=[16, 48, 96, 192],
        depths=[1, 1, 3, 2],
        patch_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=48,
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        id2label=dict(enumerate(LABELS)),
        label2id={name: label for label, name in enumerate(LABELS)},
    )
    return UperNetForSemanticSegmentation(config)


def fresh_pairs(seed: int, start: int, count: int) -> list[Pair]:
    """Pairs `start`, `start + 1`, ... of a stream, of either split by turns."""
    return [paint_pair(seed, n, split=SPLITS[n % 2]) for n in range(start, start + count)]


def train(folder: Path, *, minutes: float, batch: int = 16) -> UperNetForSemanticSegmentation:
    """Train on images painted as it goes; none is seen twice."""
    on = device()
    model = build().to(on, memory_format=torch.channels_last)
    stage = Stage(folder / "segmenter-state", model, Box(minutes, learning_rate=2e-3))

    def loss(step: int) -> dict[str, Tensor]:
        pairs = fresh_pairs(TRAIN_SEED, step * batch, batch)
        rng = np.random.default_rng((5, step))
        pixels = to_pixels(np.stack([blurred(pair.painting.image, rng) for pair in pairs]))
        labels = torch.from_numpy(np.stack([pair.labels for pair in pairs])).long().to(on)
        with bf16(on):
            output = model(pixels.to(on, memory_format=torch.channels_last), labels=labels)
        right = output.logits.detach().argmax(1) == labels
        return {"loss": output.loss, "accuracy": right.float().mean()}

    return stage.run(loss).to("cpu")


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every other image a little soft, as an autoencoder leaves it."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8)) if rng.random() < 0.5 else image


def save(model: UperNetForSemanticSegmentation, folder: Path) -> None:
    """Half weights on disk, float32 in memory, and what prepares an image."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(
        json.dumps({**config, "dtype": "float32"}, indent=1) + "\n", "utf-8"
    )
    half = [0.5, 0.5, 0.5]
    SegformerImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=half, image_std=half
    ).save_pretrained(folder)


def measure(folder: Path, *, count: int, base: str = "assets/pocket") -> dict[str, object]:
    """mIoU, mAcc and aAcc on fresh images, and on the same after the base's autoencoder.

    The latter bounds what images that the base makes can reach.
    """
    judge = Segmentation(palette="voc", labels=len(LABELS), model=str(folder))
    pairs = fresh_pairs(TEST_SEED, 0, count)
    labels = [pair.labels.astype(int) for pair in pairs]
    real = [Image.fromarray(pair.painting.image) for pair in pairs]
    figures: dict[str, object] = {"pictures": count, "parameters": _parameters(folder)}
    for name, images in (("real", real), ("restored", restored(real, base))):
        measurements = [judge.measure(image) for image in images]
        figures[name] = {k: _plain(v) for k, v in segment_scores(measurements, labels).items()}
    return figures


@torch.no_grad()
def restored(images: list[Image.Image], base: str) -> list[Image.Image]:
    """The images after encoding and decoding."""
    vae = load_base(base).vae
    pixels = to_pixels(np.stack([np.asarray(image) for image in images]))
    decoded = [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in pixels.split(20)]
    levels = (torch.cat(decoded).clamp(-1, 1) * 127.5 + 127.5).round().byte()
    return [Image.fromarray(one) for one in levels.permute(0, 2, 3, 1).numpy()]


def _parameters(folder: Path) -> int:
    return UperNetForSemanticSegmentation.from_pretrained(folder).num_parameters()


def _plain(measurements: Score) -> dict[str, float]:
    return {
        name: round(value, 4) for name, value in asdict(measurements).items() if name != "count"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the judge of segmentation maps.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--out", type=Path, default=Path("assets/pocket-segmenter"))
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--count", type=int, default=600, help="fresh images to measure it on")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    save(train(options.folder, minutes=options.minutes), options.out)
    figures = json.dumps(measure(options.out, count=options.count), indent=1)
    replace_file(options.out / FIGURES, f"{figures}\n".encode())
    print(figures)


if __name__ == "__main__":
    main()

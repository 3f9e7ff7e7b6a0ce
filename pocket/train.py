"""Train the model of the rendered world, all stages in one command.

    python -m pocket.train --folder runs/pocket3d --minutes 600 --device cpu

Views are rendered, images composed, then the autoencoder, the CLIP (text tower and scorer) and
the UNet are trained for their shares of the minutes, and a model is assembled for diffusers.
Every stage is saved as it goes: the same command goes on where the last one stopped. With more
minutes the UNet trains longer; what it stands on, the autoencoder and the text tower, stays as it
was from the moment the UNet has begun.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocket.painted.album import Album
from pocket.world.labels import WORDS
from pocket.world.models.catalogue import MODELS, Individual, everyone
from pocket.world.places.contexts import CONTEXTS
from pocket.world.rendering.views import ViewStore, render_missing
from pocket.world.scenes.materials import COLOURS, FINISHES
from pocket.world.words import PRETRAINED
from pocket.world.world import World

SHARES = {"autoencoder": 0.2, "text": 0.2, "unet": 0.6}
"""Shares of the minutes."""
CHANNELS, LATENT_CHANNELS, SIDE, PATCH = (24, 48, 96, 128), 8, 128, 16
TEST_SEED = 1
ALBUM_VERSION = 1
"""Counts changes of how scenes are composed: images of another version are made anew."""


@dataclass(frozen=True)
class Plan:
    """What is trained on what, for how long."""

    folder: Path
    minutes: float
    words: tuple[str, ...] = PRETRAINED
    sets: tuple[int, ...] = (0, 1, 2)
    count: int = 40_000
    fresh: int = 512
    processes: int = 1
    batch: int = 1
    """Multiplies the batches: a large accelerator wants larger ones."""
    models: Path = MODELS
    free_only: bool = False

    def share(self, stage: str) -> float:
        return self.minutes * SHARES[stage]

    @property
    def album(self) -> Path:
        """Another plan has other images, so its album is another folder."""
        shown = [(one.key, one.word) for one in self.seen]
        parts = (ALBUM_VERSION, shown, self.sets, self.count)
        return self.folder / f"album-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"

    @property
    def seen(self) -> tuple[Individual, ...]:
        """The individuals of pretraining: never those that are held out as subjects."""
        return tuple(
            one
            for one in everyone(self.folder / "views", self.models)
            if one.word in self.words
            and not one.held_out
            and (not self.free_only or one.licence == "CC0-1.0")
        )


def world_of(plan: Plan) -> World:
    """The world of pretraining; views that are missing are rendered first."""
    store = ViewStore(plan.folder / "views")
    render_missing(store.folder, list(plan.seen), list(plan.sets), processes=plan.processes)
    return World(store, plan.seen, plan.sets)


def prompts() -> dict[str, dict[str, str]]:
    """For each attribute of a card, value -> the prompt that names it and nothing else."""
    from pocket.painted.world import article

    return {
        "class": {word: f"a photo of {article(word)} {word}" for word in WORDS},
        "context": {phrase: f"a photo of something {phrase}" for phrase in CONTEXTS},
        "colour": {word: f"a photo of something {word}" for word in COLOURS},
        "finish": {word: f"a photo of something {word}" for word in FINISHES},
    }


def train(plan: Plan) -> Path:
    """All stages in turn; returns the folder of the assembled model."""
    from pocket.assemble import assemble
    from pocket.world.album import open_album

    world = world_of(plan)
    album = open_album(plan.album, world, count=plan.count, size=SIDE, processes=plan.processes)
    if _wants(plan, "autoencoder"):
        _train_autoencoder(plan, world, album)
    if _wants(plan, "text"):
        _train_text(plan, world, album)
    _train_unet(plan, album)
    assemble(plan.folder, plan.folder / "model")
    return plan.folder / "model"


def _train_autoencoder(plan: Plan, world: World, album: Album) -> None:
    from pocket.trainings import autoencoder

    autoencoder.train(
        album,
        plan.folder,
        minutes=plan.share("autoencoder"),
        batch=16 * plan.batch,
        model=autoencoder.build(CHANNELS, latent_channels=LATENT_CHANNELS, side=SIDE),
        fresh=lambda: _fresh(plan, world)[0],
    )
    _finish(plan, "autoencoder")


def _train_text(plan: Plan, world: World, album: Album) -> None:
    from pocket.trainings import text
    from pocket.world.scenes.captions import SIDES

    text.train(
        album,
        plan.folder,
        minutes=plan.share("text"),
        batch=96 * plan.batch,
        targets=text.PromptTargets(text.build_tokenizer(prompts(), *SIDES), prompts()),
        patch=PATCH,
        fresh=lambda: _fresh(plan, world),
    )
    _finish(plan, "text")


def _train_unet(plan: Plan, album: Album) -> None:
    from pocket.trainings import unet

    unet.train(
        album,
        plan.folder,
        minutes=plan.share("unet"),
        batch=64 * plan.batch,
        latents_count=len(album),
        latents_path=plan.album / "latents.pt",
    )


def _fresh(plan: Plan, world: World) -> tuple[np.ndarray, list[dict]]:
    """Images of another stream than the album's, with class and context of each."""
    from pocket.world.album import compose_many

    images, cards = compose_many(world, TEST_SEED, range(plan.fresh), size=SIDE)
    return images, [{"class": one["class"], "context": one["context"]} for one in cards]


def _wants(plan: Plan, stage: str) -> bool:
    """Whether a stage is to be trained: what the UNet has begun to stand on stays as it is."""
    if (plan.folder / "unet-state" / "state.pt").exists():
        return False
    return not (plan.folder / f"{stage}.finished").exists()


def _finish(plan: Plan, stage: str) -> None:
    (plan.folder / f"{stage}.finished").write_text(f"{plan.share(stage)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the model of the rendered world.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket3d"))
    parser.add_argument("--minutes", type=float, required=True, help="of training, all stages")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sets", type=int, nargs="+", default=[0, 1, 2], help="views to learn")
    parser.add_argument("--count", type=int, default=40_000, help="images in the album")
    parser.add_argument("--all-words", action="store_true", help="learn all classes")
    parser.add_argument("--free-only", action="store_true", help="only models under CC0")
    parser.add_argument("--batch", type=int, default=1, help="multiplies the batches")
    parser.add_argument("--processes", type=int, default=1, help="to render and compose with")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for one
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device. Use --device cpu.")
    torch.set_num_threads(options.threads)
    plan = Plan(
        folder=options.folder,
        minutes=options.minutes,
        words=WORDS if options.all_words else PRETRAINED,
        sets=tuple(options.sets),
        count=options.count,
        processes=options.processes,
        batch=options.batch,
        free_only=options.free_only,
    )
    print(f"assembled {train(plan)}", flush=True)


if __name__ == "__main__":
    main()
